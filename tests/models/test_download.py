"""A download is whole and checked, or nothing; what is cut goes on; every failure says what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fastdup_dagster.models import download
from fastdup_dagster.models.download import DownloadError, pull
from fastdup_dagster.models.registry import MODELS, NamedModel, RemoteFile
from fastdup_dagster.models.store import ModelRefusedError, ModelStore
from tests.models.conftest import FileServer

DATA = bytes(range(256)) * 3000
BLOCK = 1 << 14
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def store(model_folder: Path) -> ModelStore:
    return ModelStore()


@pytest.fixture
def published(file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server that is the registry's address of two models: `sure`, whose hash is stated, and `unsure`."""
    file_server.files["/m.onnx"] = DATA
    for name, sha256 in (("sure", SHA256), ("unsure", None)):
        file = RemoteFile("model.onnx", f"{file_server.url}/m.onnx", sha256)
        monkeypatch.setitem(MODELS, name, NamedModel(name, "detector", name, "MIT", (file,)))
    return file_server


def leftovers(store: ModelStore) -> list[str]:
    return sorted(p.name for p in store.root.rglob("*") if p.is_file() and p.suffix not in (".lock",))


def test_a_model_whose_hash_is_stated_comes_whole_and_is_recorded(published: FileServer, store: ModelStore) -> None:
    seen: list[tuple[str, int, int | None]] = []
    stored = pull(store, "sure", progress=lambda *now: seen.append(now))
    assert stored.graph.read_bytes() == DATA
    assert (dict(stored.files), stored.trusted, stored.licence) == ({"model.onnx": SHA256}, "publisher", "MIT")
    assert seen[-1] == ("model.onnx", len(DATA), len(DATA))
    assert store.find("sure") == stored
    assert leftovers(store) == ["model.json", "model.onnx"]


def test_what_is_there_is_not_fetched_again_unless_it_was_changed(published: FileServer, store: ModelStore) -> None:
    stored = pull(store, "sure")
    pull(store, "sure")
    assert len(published.requests) == 1
    stored.graph.write_bytes(b"spoilt")
    assert pull(store, "sure").graph.read_bytes() == DATA
    assert len(published.requests) == 2


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_cut_connection_goes_on_where_it_stopped(published: FileServer, store: ModelStore, cuts: int) -> None:
    published.cut_after, published.cuts = 5 * BLOCK + 100, cuts
    assert pull(store, "sure").graph.read_bytes() == DATA
    assert published.requests == [None, *(f"bytes={5 * BLOCK * n}-" for n in range(1, cuts + 1))]


def test_a_connection_that_is_always_cut_is_an_error_and_the_next_call_goes_on(
    published: FileServer, store: ModelStore
) -> None:
    published.cut_after, published.cuts = BLOCK, 5
    with pytest.raises(DownloadError, match=r"cut off after 81920 bytes.*same command goes on.*models add sure PATH"):
        pull(store, "sure")
    assert store.find("sure") is None
    assert pull(store, "sure").graph.read_bytes() == DATA
    assert published.requests[-1] == "bytes=81920-"


def test_a_file_that_changed_between_two_tries_starts_anew(published: FileServer, store: ModelStore) -> None:
    published.cut_after, published.cuts = BLOCK, 5
    published.files["/m.onnx"] = b"another" * 30_000
    with pytest.raises(DownloadError):
        pull(store, "sure")
    published.files["/m.onnx"] = DATA
    assert pull(store, "sure").graph.read_bytes() == DATA


def test_a_server_without_ranges_starts_anew(published: FileServer, store: ModelStore) -> None:
    published.ranges, published.cut_after, published.cuts = False, BLOCK, 1
    assert pull(store, "sure").graph.read_bytes() == DATA


def test_a_part_that_is_longer_than_the_file_is_thrown_away(published: FileServer, store: ModelStore) -> None:
    published.cut_after, published.cuts = BLOCK, 5
    with pytest.raises(DownloadError):
        pull(store, "sure")
    (part,) = store.root.rglob("*.part")
    part.write_bytes(DATA + b"more")
    assert pull(store, "sure").graph.read_bytes() == DATA


def test_a_wrong_hash_is_refused_and_nothing_of_it_stays(published: FileServer, store: ModelStore) -> None:
    published.files["/m.onnx"] = b"something else"
    with pytest.raises(ModelRefusedError, match=rf"sha256 [0-9a-f]{{64}}, expected is {SHA256}: the file was removed"):
        pull(store, "sure")
    assert (store.find("sure"), leftovers(store)) == (None, [])


def test_a_file_that_is_not_there_is_an_error_at_once(published: FileServer, store: ModelStore) -> None:
    published.files.clear()
    with pytest.raises(DownloadError, match=r"/m\.onnx: the server answers 404 Not Found.*models add sure PATH"):
        pull(store, "sure")
    assert len(published.requests) == 1


def test_a_server_that_is_busy_is_asked_again(published: FileServer, store: ModelStore) -> None:
    published.answers = [503, 429]
    assert pull(store, "sure").graph.read_bytes() == DATA


def test_without_network_the_error_gives_the_command(
    store: ModelStore, published: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:9"
    file = RemoteFile("model.onnx", f"{nobody}/m.onnx", SHA256)
    monkeypatch.setitem(MODELS, "sure", NamedModel("sure", "detector", "sure", "MIT", (file,)))
    words = rf"no connection to 127\.0\.0\.1; without network: fetch {nobody}/m\.onnx elsewhere, then: fastdup-dagster "
    with pytest.raises(DownloadError, match=words + "models add sure PATH --licence MIT"):
        pull(store, "sure")


def test_offline_nothing_is_asked_of_the_network(
    published: FileServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDUP_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"FASTDUP_OFFLINE is set.*models add sure PATH --licence MIT"):
        pull(store, "sure")
    assert published.requests == []


def test_an_unknown_hash_is_taken_only_with_trust_and_counts_from_then_on(
    published: FileServer, store: ModelStore
) -> None:
    with pytest.raises(ModelRefusedError, match=r"nobody states the sha256 of model\.onnx.*--trust-first-use"):
        pull(store, "unsure")
    assert published.requests == []
    stored = pull(store, "unsure", trust_first_use=True)
    assert (dict(stored.files), stored.trusted) == ({"model.onnx": SHA256}, "first use")
    stored.graph.unlink()
    published.files["/m.onnx"] = b"changed by somebody"
    with pytest.raises(ModelRefusedError, match=f"expected is {SHA256}"):
        pull(store, "unsure", trust_first_use=True)


def test_a_hash_that_is_given_counts_and_needs_no_trust(published: FileServer, store: ModelStore) -> None:
    assert pull(store, "unsure", sha256=SHA256.upper()).trusted == "given"
    with pytest.raises(ModelRefusedError, match="expected is " + "0" * 64):
        pull(store, "unsure", sha256="0" * 64)
    with pytest.raises(ValueError, match="sha256='abc': expected 64 hex digits"):
        pull(store, "unsure", sha256="abc")


def test_an_address_of_ones_own_is_shown_without_its_secrets(published: FileServer, store: ModelStore) -> None:
    url = published.url.replace("//", "//me:secret@") + "/m.onnx?token=hidden"
    stored = pull(store, "clip", url=url, sha256=SHA256, licence="MIT")
    record = json.loads((stored.folder / "model.json").read_text())
    assert (record["source"], record["licence"]) == (f"{published.url}/m.onnx", "MIT")
    published.files.clear()
    with pytest.raises(DownloadError) as caught:
        pull(store, "vilt", url=url, sha256=SHA256, licence="MIT")
    assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/m.onnx", "file:///etc/passwd", "https://"])
def test_only_http_and_https_are_addresses(store: ModelStore, url: str) -> None:
    with pytest.raises(ValueError, match="expected an address that starts with https"):
        pull(store, "clip", url=url, trust_first_use=True)


def test_a_model_without_a_known_address_says_how_it_comes_here(store: ModelStore) -> None:
    with pytest.raises(DownloadError, match=r"model 'blip2': no address .*models add blip2 PATH|URL --licence"):
        pull(store, "blip2")
