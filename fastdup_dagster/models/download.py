"""Files of models from the network, when a person asks for them: resumable, checked, and whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests

from fastdup_dagster.models.files import file_sha256
from fastdup_dagster.models.registry import NamedModel, RemoteFile, named
from fastdup_dagster.models.store import ModelRefusedError, ModelStore, StoredModel, check_sha256, how_to_get

# name of the file, bytes so far, bytes in all if the server says
Progress = Callable[[str, int, int | None], None]

_TRIES = 5
_PAUSE_SECONDS = 1.0
_TIMEOUT = (10, 60)
# what is lost of a cut connection at most
_BLOCK = 1 << 14
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(OSError):
    """A file did not come; the message says why, and what to do."""


class _Interrupted(Exception):
    """A try that failed in a way that another one may not."""


def pull(
    store: ModelStore,
    name: str,
    *,
    url: str | None = None,
    sha256: str | None = None,
    licence: str | None = None,
    trust_first_use: bool = False,
    progress: Progress = lambda name, done, total: None,
) -> StoredModel:
    """Fetches a model into the store. What is there and unchanged is not fetched again.

    Args:
        store: where to.
        name: of the registry.
        url: instead of the registry's address; one file.
        sha256: of that one file.
        licence: of the weights, where they come from another address than the registry's.
        trust_first_use: take a file whose hash nobody states, and record the hash of what came: from then on it counts.
        progress: called as bytes come.

    Raises:
        DownloadError: offline, no network, a cut connection, or a file that is not there.
        ModelRefusedError: if a hash is not the expected one (the file is removed), or none is known.
        ValueError: for an unknown name, or an address that is not http or https.
    """
    model = named(name)
    files = (RemoteFile("model.onnx", url),) if url is not None else model.files
    if not files:
        raise DownloadError(f"model {model.name!r}: {how_to_get(model)}")
    for file in files:
        _check_url(file.url)
    source = ", ".join(shown(file.url) for file in files)
    expected = _expected(store.recorded(model.name, source), model, files, sha256)
    there = store.find(model.name)
    if there is not None and dict(there.files) == expected and not there.changed():
        return there
    unknown = [file.name for file in files if file.name not in expected]
    if unknown and not trust_first_use:
        raise ModelRefusedError(
            f"model {model.name!r}: nobody states the sha256 of {', '.join(unknown)}: give it with --sha256, or say "
            "--trust-first-use to record that of what comes now"
        )
    if os.environ.get("FASTDUP_OFFLINE", "") not in ("", "0"):
        raise DownloadError(f"FASTDUP_OFFLINE is set, so nothing is fetched; {_elsewhere(model, files)}")
    # what came from another address is no part of this file
    place = hashlib.blake2b(source.encode(), digest_size=4).hexdigest()
    with store.staging(f"{model.name}-{place}") as staging:
        found = {}
        for file in files:
            try:
                found[file.name] = fetch(file, staging / file.name, expected.get(file.name), progress)
            except DownloadError as error:
                raise DownloadError(f"{error}; {_elsewhere(model, files)}") from error
        why = "first use" if unknown else "given" if sha256 else "publisher"
        stated = licence if licence is not None else model.licence
        return store.publish(model, staging, found, source, stated, why)


def fetch(file: RemoteFile, target: Path, expected: str | None, progress: Progress) -> str:
    """Fetches one file; a part of it that is there from an earlier try is gone on with, if the server still has it.

    Returns:
        Its sha256.

    Raises:
        DownloadError: if it does not come.
        ModelRefusedError: if its hash is not the expected one; the file is removed.
    """
    if not target.is_file():
        part = target.with_name(target.name + ".part")
        for left in range(_TRIES - 1, -1, -1):
            try:
                _try(file, part, progress)
                break
            except _Interrupted as error:
                if not left:
                    raise DownloadError(
                        f"{shown(file.url)}: {error}; what came is kept, the same command goes on"
                    ) from error
                time.sleep(_PAUSE_SECONDS * (_TRIES - left))
        part.replace(target)
        _validator_of(part).unlink(missing_ok=True)
    found = file_sha256(target)
    if expected is not None and found != expected:
        target.unlink()
        raise ModelRefusedError(f"{shown(file.url)}: sha256 {found}, expected is {expected}: the file was removed")
    return found


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _try(file: RemoteFile, part: Path, progress: Progress) -> None:
    """One request: appends to the part, or starts it anew if the server does not go on with the same file."""
    validator = _read_validator(part, file.url)
    done = part.stat().st_size if validator is not None and part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    answered = False
    if validator is not None and done:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    try:
        with requests.get(file.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            answered = True
            _check_response(response, file.url, part)
            goes_on = response.status_code == 206 and _starts_at(response, done)
            done = done if goes_on else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length and length.isdecimal() else None
            _write_validator(part, file.url, response)
            with part.open("ab" if goes_on else "wb") as out:
                for block in response.iter_content(_BLOCK):
                    out.write(block)
                    done += len(block)
                    progress(file.name, done, total)
            if total is not None and done != total:
                raise _Interrupted(f"cut off after {done} of {total} bytes")
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Interrupted(f"cut off after {done} bytes") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        if answered:
            raise _Interrupted(f"cut off after {done} bytes") from error
        raise DownloadError(f"{shown(file.url)}: no connection to {urlsplit(file.url).hostname}") from error
    except requests.exceptions.RequestException as error:
        raise DownloadError(f"{shown(file.url)}: {type(error).__name__}") from error


def _check_response(response: requests.Response, url: str, part: Path) -> None:
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise DownloadError(f"{shown(url)} leads to {shown(response.url)}, which is not encrypted: refused")
    if response.status_code == 416:  # the part is longer than the file is now
        part.unlink(missing_ok=True)
        raise _Interrupted("the file has changed")
    if response.status_code in _PASSING:
        raise _Interrupted(f"the server answers {response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise DownloadError(f"{shown(url)}: the server answers {response.status_code} {response.reason}")


def _starts_at(response: requests.Response, done: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def _validator_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path, url: str) -> str | None:
    """What tells that the file behind the address is still the same; None if nothing does."""
    try:
        known = json.loads(_validator_of(part).read_bytes())
    except (OSError, ValueError):
        return None
    return known["validator"] if known.get("url") == url else None


def _write_validator(part: Path, url: str, response: requests.Response) -> None:
    tag = response.headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if validator is None:
        _validator_of(part).unlink(missing_ok=True)
    else:
        _validator_of(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _expected(
    recorded: dict[str, str], model: NamedModel, files: Sequence[RemoteFile], sha256: str | None
) -> dict[str, str]:
    """The hashes that are known: given, stated by the publisher, or recorded at first use from the same address."""
    if sha256 is not None:
        if len(files) > 1:
            raise ValueError(f"sha256 is of one file, and {model.name!r} is {len(files)} files")
        return {files[0].name: check_sha256(sha256)}
    return recorded | {file.name: file.sha256 for file in files if file.sha256}


def _check_url(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError(f"{shown(url)}: expected an address that starts with https:// or http://")


def _elsewhere(model: NamedModel, files: Sequence[RemoteFile]) -> str:
    what = shown(files[0].url) if len(files) == 1 else f"the {len(files)} files of {shown(files[0].url)} and beside it"
    return (
        f"without network: fetch {what} elsewhere, then: "
        f"fastdup-dagster models add {model.name} PATH --licence {model.licence or 'LICENCE'}"
    )
