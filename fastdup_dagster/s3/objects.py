"""Writing, deleting and fetching single objects: whole or not at all, retried as `sources.object_store` retries."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastdup_dagster.sources.locations import Location
from fastdup_dagster.sources.object_store import ObjectStore, object_store
from fastdup_dagster.sources.remote_errors import AccessDeniedError, RemoteError, RemoteFileNotFoundError

PART_BYTES = 16 * 1024 * 1024
_MOST_PARTS = 10_000  # S3's limit
_MOST_DELETED = 1_000  # of one request
_UPLOAD_ID = "fastdup-upload"
_CREDENTIALS_SECONDS = 600  # after that polars asks again: those of a role are renewed


class Objects:
    """The objects of one endpoint.

    Args:
        server: of `minio://`; empty for the endpoint of the AWS settings.

    Raises:
        NoCredentialsError: if the AWS chain finds none.
    """

    def __init__(self, server: str) -> None:
        self.store: ObjectStore = object_store(server)

    def _client(self, place: Location) -> Any:
        return self.store.client(place.bucket)

    def polars_options(self, place: Location) -> tuple[dict[str, str], Callable[[], tuple[dict[str, str], int | None]]]:
        """`storage_options` and `credential_provider` for polars: this endpoint, with these credentials."""
        meta = self._client(place).meta
        region = {"aws_region": meta.region_name} if meta.region_name else {}

        def credentials() -> tuple[dict[str, str], int | None]:
            found = self.store.credentials()
            keys = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
            token = {"aws_session_token": found.token} if found.token else {}
            return keys | token, int(time.time()) + _CREDENTIALS_SECONDS

        return {"aws_endpoint_url": meta.endpoint_url, **region}, credentials

    def call(self, operation: str, place: Location, **given: Any) -> dict[str, Any]:
        """An operation of boto3's client on a bucket, retried, with typed errors."""
        client = self._client(place)
        try:
            answer: dict[str, Any] = self.store._ask(getattr(client, operation), place, **given)
        except AccessDeniedError as error:
            if operation == "head_object":
                raise
            raise AccessDeniedError(
                f"{error}. Results need s3:PutObject and s3:DeleteObject below {place.store}"
            ) from error
        return answer

    def put(self, place: Location, data: bytes, content_type: str = "application/octet-stream", **given: Any) -> str:
        """Writes a small object at once and returns its ETag; `given` are further arguments of PutObject."""
        answer = self.call("put_object", place, Key=place.key, Body=data, ContentType=content_type, **given)
        return str(answer["ETag"])

    def head(self, place: Location) -> dict[str, Any] | None:
        """What HeadObject answers, None if there is no such object.

        Raises:
            NoSuchBucketError: if there is not even the bucket, which an answer without a body does not tell apart.
        """
        try:
            return self.call("head_object", place, Key=place.key)
        except RemoteFileNotFoundError:
            self.store.page(Location(place.server, place.bucket, ""), most=1)
            return None

    def below(self, folder: Location) -> Iterator[Location]:
        """What lies below a prefix."""
        for page in self.store.pages(folder):
            for found in page.objects:
                yield Location(folder.server, folder.bucket, found.key)

    def delete(self, places: Iterable[Location]) -> None:
        """Deletes objects of one bucket; those that are gone are fine.

        Raises:
            RemoteError: naming the first one that could not be deleted.
        """
        waiting = list(places)
        for start in range(0, len(waiting), _MOST_DELETED):
            some = waiting[start : start + _MOST_DELETED]
            keys = [{"Key": place.key} for place in some]
            answer = self.call("delete_objects", some[0], Delete={"Objects": keys, "Quiet": True})
            for failed in answer.get("Errors", ()):
                raise RemoteError(f"{some[0].store}/{failed['Key']} cannot be deleted: {failed['Code']}")

    def upload(self, path: Path, place: Location, content_type: str = "application/octet-stream") -> None:
        """Writes a file: the object appears when all of it is there, and otherwise the old one stays."""
        size = path.stat().st_size
        if size <= PART_BYTES:
            self.put(place, path.read_bytes(), content_type)
            return
        # The id makes a completion recognisable whose answer got lost: asked again, S3 no longer knows the upload.
        mark = uuid.uuid4().hex
        begun = self.call(
            "create_multipart_upload", place, Key=place.key, ContentType=content_type, Metadata={_UPLOAD_ID: mark}
        )
        upload = {"Key": place.key, "UploadId": begun["UploadId"]}
        try:
            parts = self._upload_parts(path, place, upload, max(PART_BYTES, -(-size // _MOST_PARTS)))
            self._complete(place, upload, parts, mark)
        except BaseException:
            self._abort(place, upload)
            raise

    def _upload_parts(
        self, path: Path, place: Location, upload: Mapping[str, str], part_bytes: int
    ) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        with path.open("rb") as file:
            while data := file.read(part_bytes):
                number = len(parts) + 1
                answer = self.call("upload_part", place, **upload, PartNumber=number, Body=data)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        return parts

    def _complete(self, place: Location, upload: Mapping[str, str], parts: list[dict[str, Any]], mark: str) -> None:
        try:
            self.call("complete_multipart_upload", place, **upload, MultipartUpload={"Parts": parts})
        except RemoteFileNotFoundError:
            there = self.head(place)
            if there is None or there.get("Metadata", {}).get(_UPLOAD_ID) != mark:
                raise

    def _abort(self, place: Location, upload: Mapping[str, str]) -> None:
        try:
            self.call("abort_multipart_upload", place, **upload)
        except RemoteError:  # what led here is what is to be told; a rule of the bucket's life cycle removes the rest
            return

    def download(self, place: Location, path: Path) -> None:
        """Fetches an object into a file, in ranges of one version, so that a broken connection costs one of them."""
        head = self.head(place)
        if head is None:
            raise RemoteFileNotFoundError(f"{place.text}: no such object")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with part.open("wb") as file:
                for start in range(0, head["ContentLength"], PART_BYTES):
                    last = min(start + PART_BYTES, head["ContentLength"]) - 1
                    file.write(self.store.get(place, start, last, head["ETag"]))
            os.replace(part, path)  # noqa: PTH105 - as in storage.write_atomically
        finally:
            part.unlink(missing_ok=True)

    def sign(self, place: Location, seconds: int) -> str:
        """A URL that gives the object to whoever has it, for a while."""
        client = self._client(place)
        given = {"Bucket": place.bucket, "Key": place.key}
        url: str = client.generate_presigned_url("get_object", Params=given, ExpiresIn=seconds)
        return url


def below(folder: Location, *names: str) -> Location:
    """A key below a folder or a bucket."""
    return Location(folder.server, folder.bucket, folder.folder.key + "/".join(names))


def error_code(error: RemoteError) -> str:
    """The code that the server gave, such as `PreconditionFailed`; empty if it gave none."""
    response = getattr(error.__context__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
