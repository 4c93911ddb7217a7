"""What can go wrong with an object store: errors with a remedy, and attempts at what may pass by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_Result = TypeVar("_Result")

ATTEMPTS = 8
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 8.0  # seconds


class RemoteError(OSError):
    """An object store does not give what was asked for; the message says what, where, and what to do."""


class NoSuchBucketError(RemoteError):
    """There is no such bucket at the endpoint."""


class AccessDeniedError(RemoteError):
    """The credentials are refused, or do not allow it."""


class NoCredentialsError(RemoteError):
    """The AWS chain finds no credentials."""


class EndpointError(RemoteError):
    """Nothing answers at the endpoint."""


class RemoteFileNotFoundError(RemoteError, FileNotFoundError):
    """There is no such object."""


class PastTheEndError(RemoteError):
    """The bytes that are asked for lie past the end of the object."""


class PassingError(Exception):
    """A failure that another attempt may not meet; the text says which."""


class NotConnectedError(PassingError):
    """No connection to an endpoint.

    Args:
        endpoint: its URL.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"nothing answers at {endpoint}")
        self.endpoint = endpoint


@contextmanager
def typed(endpoint: str) -> Iterator[None]:
    """Turns the errors of botocore and urllib3 into ours, without a trace of theirs: Dagster would show those instead.

    Raises:
        EndpointError: for a connection that is not secure.
        NoCredentialsError: for credentials that cannot be renewed.
        PassingError: for connections that break, or do not come about.
    """
    import urllib3.exceptions as http
    from botocore import exceptions as boto

    try:
        yield
    except (boto.SSLError, http.SSLError):
        raise EndpointError(
            f"no secure connection to {endpoint}: a certificate that is not trusted here? AWS_CA_BUNDLE names the file "
            "of those that are"
        ) from None
    except (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError):
        raise NotConnectedError(endpoint) from None
    except (http.NewConnectionError, http.ConnectTimeoutError, http.ProxyError):
        raise NotConnectedError(endpoint) from None
    except (boto.HTTPClientError, http.HTTPError) as error:
        raise PassingError(f"the connection broke ({type(error).__name__})") from None
    except (boto.NoCredentialsError, boto.CredentialRetrievalError, boto.TokenRetrievalError) as error:
        raise NoCredentialsError(f"no usable credentials for {endpoint}: {error}") from None


def retried(once: Callable[[], _Result], what: str, to_connect: int = ATTEMPTS) -> _Result:
    """Calls until it does not fail, with exponential backoff and jitter, 8 times at most.

    Args:
        once: raises `PassingError` for what is worth another attempt.
        what: is attempted, for the message.
        to_connect: attempts at most where no connection comes about.

    Raises:
        EndpointError: if no connection came about.
        RemoteError: for any other failure of all attempts, naming the last.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return once()
        except NotConnectedError as error:
            if attempt >= to_connect:
                raise EndpointError(
                    f"{what}: nothing answers at {error.endpoint}: check AWS_ENDPOINT_URL, or the server of the "
                    "minio:// URL, and that it is running"
                ) from None
        except PassingError as error:
            if attempt == ATTEMPTS:
                raise RemoteError(f"{what}: {error}, {attempt} times in a row") from None
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (attempt - 1))
        time.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
