"""Requests to an S3 server: signed, retried, bounded, with errors that name the bucket, the endpoint and a remedy.

What is read, listings and bytes, does not go through botocore's client: a GET by boto3 takes 1.5 ms of CPU time
(pyarrow's file system asks twice and takes 0.9 ms), one that `signing` signs and urllib3 sends a third of that, where a
photo takes 5 ms to decode and embed; `benchmarks/s3.py` and `benchmarks/s3_listing.py` show what it comes to.
Credentials come from the standard AWS chain alone, and are in no message.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

from fastdup_dagster.sources import listing
from fastdup_dagster.sources.buckets import CONNECTIONS as CONNECTIONS
from fastdup_dagster.sources.buckets import Bucket, Buckets
from fastdup_dagster.sources.listing import ListingPage
from fastdup_dagster.sources.locations import Location, endpoint_of
from fastdup_dagster.sources.remote_errors import (
    ATTEMPTS,
    AccessDeniedError,
    EndpointError,
    NoSuchBucketError,
    PassingError,
    PastTheEndError,
    RemoteError,
    RemoteFileNotFoundError,
    retried,
    typed,
)

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_Result = TypeVar("_Result")
_Given = TypeVar("_Given")

# Calls of `in_parallel` that are begun at a time: enough for all connections, and a list of millions is not held.
_AHEAD = 16 * CONNECTIONS

# A listing that finds nobody has the wrong endpoint more often than a hiccup: said soon.
_LISTING_ATTEMPTS_TO_CONNECT = 3
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable", "Throttling"})
_DENIED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_ELSEWHERE_STATUS = frozenset({301, 302, 307})
_ELSEWHERE_CODES = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"}
)
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ObjectStore:
    """Reads and lists what is at one endpoint; arguments and errors as of `Buckets`. Threads may share it."""

    def __init__(self, endpoint: str | None) -> None:
        self._buckets = Buckets(endpoint)
        self._given_up = 0

    @property
    def endpoint(self) -> str:
        """Scheme, host and port; never a user or password."""
        return self._buckets.endpoint

    def client(self, bucket: str) -> Any:
        """Botocore's client for the region of a bucket."""
        return self._buckets.reach(bucket).client

    def credentials(self) -> Any:
        """The keys of this process as they are now, as botocore freezes them."""
        return self._buckets.credentials()

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
        data = answer.data
        if last is not None and answer.status == 200:  # a server or proxy that knows no ranges sends the whole object
            if 0 < len(data) <= first:
                raise PastTheEndError(f"{place.text} ends before the bytes that are asked for")
            data = data[first : last + 1]
        return data, answer.headers.get("ETag")

    def head(self, place: Location) -> Mapping[str, str]:
        """The headers of an object; raises what `get` raises."""
        return self._request("HEAD", place, {}).headers

    def pages(self, folder: Location, delimiter: str = "", most: int = 1000) -> Iterator[ListingPage]:
        """A listing, page by page, of what begins with a key.

        Args:
            folder: bucket, and what the keys begin with.
            delimiter: `/` for one level alone, the levels below as folders.
            most: keys a page.

        Raises:
            NoSuchBucketError, AccessDeniedError, EndpointError, RemoteError: saying where, and what to do.
        """
        token = None
        while True:
            page = self.page(folder, delimiter, most, token)
            yield page
            if page.following is None:
                return
            if page.following == token:
                raise RemoteError(f"listing {folder.text}: {self.endpoint} gives the same page again and again")
            token = page.following

    def page(
        self, folder: Location, delimiter: str = "", most: int = 1000, token: str | None = None, after: str = ""
    ) -> ListingPage:
        """One page: see `pages`; the one behind a token, or that begins after a key."""
        query = listing.query(folder.key, delimiter, most, token, after)

        def once() -> ListingPage:
            answer = self._send("GET", folder, {}, query).data
            try:
                return listing.parsed(answer)
            except listing.CutListingError:
                raise PassingError("a truncated answer") from None
            except listing.NoListingError as error:
                raise RemoteError(
                    f"listing {folder.text}: what {self.endpoint} answers is no listing of a bucket ({error}): check "
                    "AWS_ENDPOINT_URL, or the server of the minio:// URL"
                ) from None

        return retried(once, f"listing {folder.text}", _LISTING_ATTEMPTS_TO_CONNECT)

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

        return retried(once, place.text, _LISTING_ATTEMPTS_TO_CONNECT)

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

    def _send(
        self, method: str, place: Location, headers: Mapping[str, str], listing_query: str = ""
    ) -> BaseHTTPResponse:
        with typed(self.endpoint):
            bucket = self._buckets.reach(place.bucket)
            key = quote(place.key, safe="/~", errors="surrogateescape")
            path = (bucket.path.rstrip("/") or "/") if listing_query else bucket.path + key
            sent = bucket.signer.signed(method, bucket.host, path, headers, self.credentials(), listing_query)
            asked = _kept(path) if bucket.before else path
            target = f"{bucket.before}{asked}?{listing_query}".removesuffix("?")
            response = bucket.pool.urlopen(
                method,
                target,
                headers=sent,
                retries=False,
                redirect=False,
                decode_content=False,
                assert_same_host=not bucket.before,  # the pool's host is the proxy's
            )
        if response.status not in (200, 206):
            code = _said(response, "Code")
            self._follow(method, place, bucket, response, code)
            self._refuse(place, response.status, code, is_listing=bool(listing_query))
        return response

    def _follow(self, method: str, place: Location, bucket: Bucket, response: BaseHTTPResponse, code: str) -> None:
        """Where the answer is that the bucket is in another region: goes there, by another attempt."""
        if response.status not in _ELSEWHERE_STATUS and code not in _ELSEWHERE_CODES and response.status != 400:
            return
        region = response.headers.get("x-amz-bucket-region") or _said(response, "Region")
        if method == "HEAD" and response.status == 400 and not region:  # such an answer has no body that tells
            try:
                self.page(Location(place.server, place.bucket, ""), most=1)
            except EndpointError:
                raise
            except RemoteError:
                pass  # it was asked for what it tells of the region
            region = self._buckets.reach(place.bucket).signer.region
        if _REGION.fullmatch(region) and region != bucket.signer.region:
            self._buckets.move(place.bucket, region)
            raise PassingError(f"the bucket is in the region {region}, {self.endpoint} says")
        if response.status == 400 and not code and not region:
            raise EndpointError(
                f"{place.text}: {self.endpoint} answered status 400, not as an object store does: does it want https? "
                "An alias can say so: minio://name/bucket with FASTDUP_MINIO_NAME=https://host:port"
            )

    def _refuse(self, place: Location, status: int, code: str, is_listing: bool = False) -> NoReturn:
        """Raises what an answer that is an error means."""
        said = f"{code}, status {status}" if code else f"status {status}"
        if status in _PASSING_STATUS or code in _PASSING_CODES:
            raise PassingError(f"the server answered {said}")
        if code == "NoSuchBucket" or (is_listing and status == 404):
            raise NoSuchBucketError(f"no bucket {place.bucket!r} at {self.endpoint}: check its name, and {_WHERE}")
        if status == 404:
            raise RemoteFileNotFoundError(f"no object {place.text} ({said})")
        if status == 412:
            raise RemoteError(f"{place.text} was replaced while it was read: read it again")
        if status == 416:
            raise PastTheEndError(f"{place.text} ends before the bytes that are asked for ({said})")
        if status in (401, 403) or code in _DENIED:
            raise AccessDeniedError(
                f"{place.text}: access denied by {self.endpoint}, {said}: the credentials in use need s3:ListBucket on "
                "the bucket and s3:GetObject on its objects; which are in use says `aws sts get-caller-identity`"
            )
        if status in _ELSEWHERE_STATUS or code in _ELSEWHERE_CODES:
            raise RemoteError(
                f"{place.text}: {self.endpoint} answered {said}: the bucket is in another region, or at another "
                "endpoint: set AWS_REGION, or AWS_ENDPOINT_URL"
            )
        raise RemoteError(f"{place.text}: {self.endpoint} answered {said}")


def in_parallel(call: Callable[[_Given], _Result], given: Iterable[_Given]) -> Iterator[_Result]:
    """The results of calls that wait for an object store, in order; many at a time, a bounded number ahead."""
    waiting = iter(given)
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="objects") as pool:
        begun = deque(pool.submit(call, one) for one in islice(waiting, _AHEAD))
        try:
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(call, one) for one in islice(waiting, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _kept(path: str) -> str:
    """The same path, of which urllib3 leaves out nothing: in a whole URL it follows the `..` that a key may hold."""
    return "/".join("%2E" * len(part) if part in (".", "..") else part for part in path.split("/"))


def _said(response: BaseHTTPResponse, element: str) -> str:
    """What an answer that is an error has in an element; empty if nothing."""
    found = re.search(rf"<{element}>([A-Za-z0-9-]{{1,60}})</{element}>".encode(), response.data[:10_000])
    return found[1].decode() if found else ""


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
