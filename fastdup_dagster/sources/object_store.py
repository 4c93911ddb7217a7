"""Requests to an S3 server: signed, retried, bounded, with errors that name the bucket, the endpoint and a remedy.

Listings go through boto3's client. Bytes do not: its machinery takes twice the CPU time of signing a GET with botocore
and sending it with botocore's own session (1.5 ms against 0.8 ms a photo; `benchmarks/s3.py` shows what it comes to).
Credentials come from the standard AWS chain alone and appear in no message.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

from fastdup_dagster.sources.locations import Location, endpoint_of

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse

_Result = TypeVar("_Result")

ATTEMPTS = 8
# A first connection that fails is more often a wrong endpoint than a hiccup: said soon, not after all the attempts.
_ATTEMPTS_TO_CONNECT = 3
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 8.0  # seconds
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
CONNECTIONS = 32
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling"})
_DENIED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)


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


class _PassingError(Exception):
    """A failure that another attempt may not meet; the text says which."""


class ObjectStore:
    """One endpoint with the credentials of this process. Threads may share it.

    Args:
        server: of `minio://`; empty for the endpoint of the AWS settings.

    Raises:
        NoCredentialsError: if the AWS chain finds none.
        ValueError: for an alias that no variable explains.
    """

    def __init__(self, server: str) -> None:
        import boto3  # here, because it is slow to import and most runs are local
        from botocore.exceptions import BotoCoreError
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        self._endpoint = endpoint_of(server)
        try:
            self._session = boto3.Session()
            self._credentials = self._session.get_credentials()
            self._client = self._make_client(None)
        except BotoCoreError as error:  # a profile that is not there, a role that cannot be taken on
            raise NoCredentialsError(f"the AWS settings of this process cannot be used: {error}") from error
        if self._credentials is None:
            raise NoCredentialsError(
                f"no credentials for {self.endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or run where a role gives them"
            )
        self._http = URLLib3Session(
            verify=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True,
            proxies=get_environ_proxies(self._client.meta.endpoint_url),
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            max_pool_connections=CONNECTIONS,
        )
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[Any, str]] = {}

    @property
    def endpoint(self) -> str:
        """Scheme, host and port; never a user or password."""
        parts = urlsplit(self._client.meta.endpoint_url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def get(self, place: Location, first: int = 0, last: int | None = None, etag: str | None = None) -> bytes:
        """The bytes of an object, or those from `first` to `last`, both included.

        Args:
            place: the object.
            first: position of the first byte.
            last: position of the last byte; None for all.
            etag: of the object that is meant, with its quotes; another one is refused.

        Raises:
            RemoteFileNotFoundError: if it is not there.
            RemoteError: if it cannot be read, after all attempts, or is another one by now.
        """
        wanted = {} if last is None else {"Range": f"bytes={first}-{last}"}
        wanted |= {} if etag is None else {"If-Match": etag}
        return bytes(_retried(lambda: self._send("GET", place, wanted), place.text, ATTEMPTS).content)

    def head(self, place: Location) -> Mapping[str, str]:
        """The headers of an object; raises what `get` raises."""
        headers: Mapping[str, str] = _retried(lambda: self._send("HEAD", place, {}), place.text, ATTEMPTS).headers
        return headers

    def pages(self, folder: Location, delimiter: str = "", most: int = 1000) -> Iterator[dict[str, Any]]:
        """The answers of `ListObjectsV2`, one page after another, for what begins with a key.

        Args:
            folder: bucket, and what the keys begin with.
            delimiter: `/` for one level alone, the levels below as `CommonPrefixes`.
            most: keys a page.

        Raises:
            NoSuchBucketError, AccessDeniedError, EndpointError, RemoteError: saying where, and what to do.
        """
        client, _ = self._bucket(folder.bucket)
        token: dict[str, str] = {}
        while True:
            page: dict[str, Any] = self._ask(
                client.list_objects_v2,
                folder,
                Prefix=folder.key,
                MaxKeys=most,
                **({"Delimiter": delimiter} if delimiter else {}),
                **token,
            )
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _ask(self, operation: Callable[..., _Result], place: Location, **given: Any) -> _Result:
        """Calls an operation of boto3's client."""
        from botocore.exceptions import ClientError
        from botocore.parsers import ResponseParserError

        def once() -> _Result:
            with _typed(self.endpoint):
                try:
                    return operation(Bucket=place.bucket, **given)
                except ResponseParserError as error:  # the answer was cut off
                    raise _PassingError("a truncated answer") from error
                except ClientError as error:
                    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                    self._refuse(place, status, error.response.get("Error", {}).get("Code", ""))

        return _retried(once, f"listing {place.text}", ATTEMPTS)

    def _send(self, method: str, place: Location, headers: Mapping[str, str]) -> AWSResponse:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        client, base = self._bucket(place.bucket)
        url = base + quote(place.key, safe="/~", errors="surrogateescape")
        request = AWSRequest(method, url, headers=dict(headers))
        S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", client.meta.region_name).add_auth(request)
        with _typed(self.endpoint):
            response = self._http.send(request.prepare())
        length = response.headers.get("Content-Length")
        if method == "GET" and length is not None and len(response.content) != int(length):
            raise _PassingError(f"a truncated body: {len(response.content)} of {length} bytes")
        if response.status_code not in (200, 206):
            code = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", response.content[:10_000])
            self._refuse(place, response.status_code, code[1].decode() if code else "")
        return response

    def _refuse(self, place: Location, status: int, code: str) -> NoReturn:
        """Raises what an answer that is an error means."""
        said = f"{code}, status {status}" if code else f"status {status}"
        if status in _PASSING_STATUS or code in _PASSING_CODES:
            raise _PassingError(f"the server answered {said}")
        if code == "NoSuchBucket":
            raise NoSuchBucketError(f"no bucket {place.bucket!r} at {self.endpoint}: check its name, and {_WHERE}")
        if status == 404:
            raise RemoteFileNotFoundError(f"no object {place.text} ({said})")
        if status == 412:
            raise RemoteError(f"{place.text} was replaced while it was read: read it again")
        if status in (401, 403) or code in _DENIED:
            raise AccessDeniedError(
                f"{place.text}: access denied by {self.endpoint}, {said}: the credentials in use need s3:ListBucket on "
                "the bucket and s3:GetObject on its objects; which are in use says `aws sts get-caller-identity`"
            )
        raise RemoteError(f"{place.text}: {self.endpoint} answered {said}")

    def _bucket(self, bucket: str) -> tuple[Any, str]:
        """A client for the region of a bucket, and the URL that its keys are appended to."""
        with self._lock:
            if bucket not in self._buckets:
                client = self._client
                if (region := self._region(bucket)) not in (None, client.meta.region_name):
                    client = self._make_client(region)
                # Whether the bucket stands in the host or in the path is botocore's to know.
                url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
                self._buckets[bucket] = client, url.partition("?")[0].removesuffix("k")
            return self._buckets[bucket]

    def _make_client(self, region: str | None) -> Any:
        from botocore.config import Config

        return self._session.client(
            "s3",
            region_name=region,
            endpoint_url=self._endpoint,
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                **({} if self._endpoint is None else {"s3": {"addressing_style": "path"}}),
            ),
        )

    def _region(self, bucket: str) -> str | None:
        """Where AWS keeps a bucket; None for other servers, and where it does not say."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not (urlsplit(self._client.meta.endpoint_url).hostname or "").endswith(".amazonaws.com"):
            return None
        try:
            answer = self._client.head_bucket(Bucket=bucket)
        except ClientError as error:  # denied or elsewhere: the header is there all the same
            answer = error.response
        except BotoCoreError:  # the request that follows meets it too, and says so
            return None
        region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region


_WHERE = "AWS_ENDPOINT_URL and AWS_PROFILE, which decide where it is looked for"


@contextmanager
def _typed(endpoint: str) -> Iterator[None]:
    """Turns botocore's own errors into ours."""
    from botocore import exceptions as boto

    try:
        yield
    except (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError) as error:
        raise _NotConnectedError(endpoint) from error
    except boto.SSLError as error:
        raise EndpointError(
            f"no secure connection to {endpoint}: a certificate that is not trusted here? AWS_CA_BUNDLE names the file "
            "of those that are"
        ) from error
    except boto.HTTPClientError as error:
        raise _PassingError(f"the connection broke ({type(error).__name__})") from error
    except (boto.NoCredentialsError, boto.CredentialRetrievalError, boto.TokenRetrievalError) as error:
        raise NoCredentialsError(f"no usable credentials for {endpoint}: {error}") from error


class _NotConnectedError(_PassingError):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"nothing answers at {endpoint}")
        self.endpoint = endpoint


def _retried(once: Callable[[], _Result], what: str, attempts: int) -> _Result:
    """Calls until it does not fail, with exponential backoff and jitter, bounded."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return once()
        except _NotConnectedError as error:
            if attempt >= min(attempts, _ATTEMPTS_TO_CONNECT):
                raise EndpointError(
                    f"{what}: nothing answers at {error.endpoint}: check AWS_ENDPOINT_URL, or the server of the "
                    "minio:// URL, and that it is running"
                ) from error
        except _PassingError as error:
            if attempt == attempts:
                raise RemoteError(f"{error}, {attempts} times in a row") from error
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (attempt - 1))
        time.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret


_opening = threading.Lock()


def object_store(server: str) -> ObjectStore:
    """The store behind a server, with the AWS settings as they are now; one for all threads."""
    settings = frozenset((n, v) for n, v in os.environ.items() if n.startswith(("AWS_", "FASTDUP_MINIO_")))
    with _opening:
        return _store(server, settings)


@lru_cache(maxsize=8)
def _store(server: str, _: frozenset[tuple[str, str]]) -> ObjectStore:
    return ObjectStore(server)
