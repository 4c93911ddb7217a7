"""Requests to an S3 server: signed, retried, bounded, with errors that name the bucket, the endpoint and a remedy.

Listings go through botocore's client. Bytes do not: a GET by boto3 takes 1.5 ms of CPU time (pyarrow's file system asks
twice and takes 0.9 ms), one that `signing` signs and urllib3 sends a third of that, where a photo takes 5 ms to decode
and embed; `benchmarks/s3.py` shows what it comes to. Credentials come from the standard AWS chain alone, and are in no
message.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, unquote, urlsplit

from fastdup_dagster.sources.locations import Location, endpoint_of
from fastdup_dagster.sources.remote_errors import (
    ATTEMPTS,
    AccessDeniedError,
    EndpointError,
    NoCredentialsError,
    NoSuchBucketError,
    PassingError,
    RemoteError,
    RemoteFileNotFoundError,
    retried,
    typed,
)
from fastdup_dagster.sources.signing import Signer

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager

_Result = TypeVar("_Result")

CONNECTIONS = 32
# A listing that finds nobody has the wrong endpoint more often than a hiccup: said soon.
_LISTING_ATTEMPTS_TO_CONNECT = 3
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling"})
_DENIED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)


@dataclass(frozen=True)
class _Bucket:
    """How a bucket is reached.

    Attributes:
        client: botocore's, for the region of the bucket.
        host: as the header `Host` says it.
        path: that its keys are appended to.
        before: what a request has before the path: scheme and host where a proxy wants the whole URL.
        pool: connections to its host.
        signer: for its region.
    """

    client: Any
    host: str
    path: str
    before: str
    pool: HTTPConnectionPool
    signer: Signer


class ObjectStore:
    """One endpoint with the credentials of this process. Threads may share it.

    Args:
        endpoint: URL of the server; None for that of the AWS settings.

    Raises:
        NoCredentialsError: if the AWS chain finds none.
    """

    def __init__(self, endpoint: str | None) -> None:
        import botocore.session  # here, because it is slow to import and most runs are local
        from botocore.exceptions import BotoCoreError

        self._endpoint = endpoint
        try:
            self._session = botocore.session.get_session()
            self._credentials = self._session.get_credentials()
            self._client = self._make_client(None)
        except ValueError:  # botocore's text repeats the URL, whatever is in it
            raise EndpointError("the endpoint of the AWS settings is no URL: check AWS_ENDPOINT_URL") from None
        except BotoCoreError as error:  # a profile that is not there, a role that cannot be taken on
            raise NoCredentialsError(f"the AWS settings of this process cannot be used: {error}") from error
        if "@" in urlsplit(self._client.meta.endpoint_url).netloc:
            raise EndpointError(
                f"the URL of {self.endpoint} holds a user or password, which would end in logs: put credentials where "
                "the AWS tools look for them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
            )
        if self._credentials is None:
            raise NoCredentialsError(
                f"no credentials for {self.endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or run where a role gives them"
            )
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._given_up = 0

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
        return self.get_tagged(place, first, last, etag)[0]

    def get_tagged(
        self, place: Location, first: int = 0, last: int | None = None, etag: str | None = None
    ) -> tuple[bytes, str | None]:
        """What `get` gives, and the object's etag, with its quotes; raises what `get` raises."""
        wanted = {} if last is None else {"Range": f"bytes={first}-{last}"}
        wanted |= {} if etag is None else {"If-Match": etag}
        answer = self._request("GET", place, wanted)
        return answer.data, answer.headers.get("ETag")

    def head(self, place: Location) -> Mapping[str, str]:
        """The headers of an object; raises what `get` raises."""
        return self._request("HEAD", place, {}).headers

    def pages(self, folder: Location, delimiter: str = "", most: int = 1000) -> Iterator[dict[str, Any]]:
        """The answers of `ListObjectsV2`, one page after another, for what begins with a key.

        Args:
            folder: bucket, and what the keys begin with.
            delimiter: `/` for one level alone, the levels below as `CommonPrefixes`.
            most: keys a page.

        Raises:
            NoSuchBucketError, AccessDeniedError, EndpointError, RemoteError: saying where, and what to do.
        """
        client = self._bucket(folder.bucket).client
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
            with typed(self.endpoint):
                try:
                    return operation(Bucket=place.bucket, **given)
                except ResponseParserError as error:  # the answer was cut off
                    raise PassingError("a truncated answer") from error
                except ClientError as error:
                    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                    self._refuse(place, status, error.response.get("Error", {}).get("Code", ""))

        return retried(once, f"listing {place.text}", _LISTING_ATTEMPTS_TO_CONNECT)

    def _request(self, method: str, place: Location, headers: Mapping[str, str]) -> BaseHTTPResponse:
        # Once as many files as there are connections were given up, the server is gone: the others do not wait for it.
        to_connect = ATTEMPTS if self._given_up < CONNECTIONS else 1
        try:
            answer = retried(lambda: self._send(method, place, headers), place.text, to_connect)
        except EndpointError:
            self._given_up += 1
            raise
        self._given_up = 0
        return answer

    def _send(self, method: str, place: Location, headers: Mapping[str, str]) -> BaseHTTPResponse:
        with typed(self.endpoint):
            bucket = self._bucket(place.bucket)
            path = bucket.path + quote(place.key, safe="/~", errors="surrogateescape")
            credentials = self._credentials.get_frozen_credentials()
            sent = bucket.signer.signed(method, bucket.host, path, headers, credentials)
            response = bucket.pool.urlopen(
                method, bucket.before + path, headers=sent, retries=False, redirect=False, decode_content=False
            )
        if response.status not in (200, 206):
            code = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", response.data[:10_000])
            self._refuse(place, response.status, code[1].decode() if code else "")
        return response

    def _refuse(self, place: Location, status: int, code: str) -> NoReturn:
        """Raises what an answer that is an error means."""
        said = f"{code}, status {status}" if code else f"status {status}"
        if status in _PASSING_STATUS or code in _PASSING_CODES:
            raise PassingError(f"the server answered {said}")
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

    def _bucket(self, name: str) -> _Bucket:
        with self._lock:
            if name not in self._buckets:
                client = self._client
                if (region := self._region(name)) not in (None, client.meta.region_name):
                    client = self._make_client(region)
                # Whether the bucket stands in the host or in the path is botocore's to know.
                url = client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
                base = url.partition("?")[0].removesuffix("k")
                manager, proxied = self._connections(base)
                parts = urlsplit(base)
                before = f"{parts.scheme}://{parts.netloc}" if proxied and parts.scheme == "http" else ""
                pool, signer = manager.connection_from_url(base), Signer(client.meta.region_name)
                self._buckets[name] = _Bucket(client, _host(base), parts.path, before, pool, signer)
            return self._buckets[name]

    def _connections(self, url: str) -> tuple[PoolManager, bool]:
        """Connections with the certificates and proxies that botocore would use, and whether there is a proxy."""
        import urllib3
        from botocore.httpsession import get_cert_path
        from botocore.utils import get_environ_proxies

        options: dict[str, Any] = {
            "maxsize": CONNECTIONS,
            "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            "ca_certs": self._session.get_config_variable("ca_bundle") or get_cert_path(True),
        }
        scheme = urlsplit(url).scheme
        proxy = get_environ_proxies(url).get(scheme)
        if proxy is None:
            return urllib3.PoolManager(**options), False
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=user)
        return urllib3.ProxyManager(parts.geturl(), proxy_headers=headers, **options), True

    def _make_client(self, region: str | None) -> Any:
        from botocore.config import Config

        return self._session.create_client(
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


def _host(url: str) -> str:
    """The header `Host`: in lower case, without the scheme's own port."""
    parts = urlsplit(url.lower())
    own = {"http": 80, "https": 443}[parts.scheme]
    return parts.netloc.rpartition(":")[0] if parts.port == own else parts.netloc


_WHERE = "AWS_ENDPOINT_URL and AWS_PROFILE, which decide where it is looked for"

_opening = threading.Lock()
# What a store is made with: where one of these changes, another store is meant.
_SETTINGS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


def object_store(server: str) -> ObjectStore:
    """The store behind a server, with the AWS settings as they are now; one for all threads."""
    settings = tuple(map(os.environ.get, _SETTINGS))
    with _opening:
        return _store(server, endpoint_of(server), settings)


@lru_cache(maxsize=8)
def _store(server: str, endpoint: str | None, settings: tuple[str | None, ...]) -> ObjectStore:
    return ObjectStore(endpoint)
