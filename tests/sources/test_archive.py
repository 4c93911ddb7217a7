"""Archives are read in place: every image in them is a row, whatever is wrong with it or with the archive."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from fastdup_dagster.images import ImageError, read_bytes
from fastdup_dagster.settings import Settings
from fastdup_dagster.sources import Entry, open_source, opening
from fastdup_dagster.sources.archive import MAX_MEMBER_BYTES
from fastdup_dagster.sources.part_reading import keeping_open
from fastdup_dagster.stages.image_manifest import list_images

Files = dict[str, bytes]
KINDS = ["tar", "tar.gz", "tgz", "zip"]


def tar_of(files: Files, mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def archive_of(kind: str, files: Files) -> bytes:
    return zip_of(files) if kind == "zip" else tar_of(files, "w" if kind == "tar" else "w:gz")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def listed(path: Path, **settings: object) -> tuple[list[Entry], list[str]]:
    source = open_source(path, Settings(**settings))
    return list(source.entries()), source.notes


def by_name(entries: list[Entry]) -> dict[str, str | None]:
    return {entry.filename: entry.error_code for entry in entries}


FILES = {
    "b/2.jpg": noise(3000, 1),
    "a.PNG": noise(700, 2),
    "b/1.jpg": noise(1024, 3),
    "notes.txt": b"text",
    "c.jpg": b"x",
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_listed_in_bytewise_order_and_read_in_place(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(archive_of(kind, FILES))
    entries, notes = listed(path)
    assert [entry.filename for entry in entries] == [f"x.{kind}/{n}" for n in ("a.PNG", "b/1.jpg", "b/2.jpg", "c.jpg")]
    assert [read_bytes(entry.uri) for entry in entries] == [FILES[e.filename.partition("/")[2]] for e in entries]
    assert [entry.file_size for entry in entries] == [700, 1024, 3000, 1]
    assert {(e.media, e.etag, e.mtime_ns) for e in entries} == {
        ("member", f"{path.stat().st_size} bytes", path.stat().st_mtime_ns)
    }
    assert notes == ["in archives, not images by their names, left out: 1 .txt"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_archives_in_a_folder_are_one_listing_in_bytewise_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, kind in (("a.tar", "tar"), ("a.tar.gz", "tar.gz"), ("sub/z.zip", "zip"), ("Z.TGZ", "tgz")):
        (tmp_path / name).write_bytes(archive_of(kind, {"2.jpg": b"2", "1.jpg": b"1"}))
    names = [entry.filename for entry in listed(tmp_path)[0]]
    assert names == sorted(names, key=str.encode) and len(names) == 8
    frame = list_images(open_source(tmp_path), Settings(find_regex=r"a\.tar/", min_offset=1)).frame
    assert frame.select("index", "filename", "media").rows() == [(1, "a.tar/2.jpg", "member")]


def test_a_list_takes_archives_folders_and_images_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"1.jpg": b"1"}))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "y.tar").write_bytes(tar_of({"2.jpg": b"2"}))
    (tmp_path / "a.jpg").write_bytes(b"3")
    (tmp_path / "list.txt").write_text("x.zip\nfolder\na.jpg\n")
    entries = list(open_source(tmp_path / "list.txt").entries())
    assert [e.filename for e in entries] == ["x.zip/1.jpg", "folder/y.tar/2.jpg", "a.jpg"]
    assert [read_bytes(e.uri) for e in entries] == [b"1", b"2", b"3"]


def test_images_beside_archives_go_alone_unless_tar_only_says_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"1.jpg": b"1"}))
    (tmp_path / "a.jpg").write_bytes(b"3")
    entries, notes = listed(tmp_path)
    assert [e.filename for e in entries] == ["a.jpg"] and notes[0].endswith("are not mixed: 1 .zip")
    entries, notes = listed(tmp_path, tar_only=True)
    assert [e.filename for e in entries] == ["x.zip/1.jpg"] and notes[0].endswith("are not mixed: 1 .jpg")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_names_of_any_bytes_survive(kind: str, tmp_path: Path) -> None:
    raw = [b"caf\xe9.jpg", b"space #&=%.jpg", "\u4e2d.jpg".encode(), b"back\\slash.jpg", b"new\nline.jpg"]
    files = {os.fsdecode(name): bytes([number]) for number, name in enumerate(raw)}
    if kind == "zip":  # zipfile writes no such name: put them over others of their lengths
        data = zip_of({f"{number}{'n' * (len(name) - 1)}": bytes([number]) for number, name in enumerate(raw)})
        for number, name in enumerate(raw):
            data = data.replace(f"{number}{'n' * (len(name) - 1)}".encode(), name)
    else:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w" if kind == "tar" else "w:gz", format=tarfile.GNU_FORMAT) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(content))
        data = buffer.getvalue()
    (tmp_path / f"x.{kind}").write_bytes(data)
    entries, _ = listed(tmp_path / f"x.{kind}")
    assert len({e.filename for e in entries}) == len({e.uri for e in entries}) == len(raw)
    assert {read_bytes(e.uri) for e in entries} == set(files.values())
    assert f"x.{kind}/caf\\xe9.jpg" in {e.filename for e in entries}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_are_read_whole(format: int, tmp_path: Path) -> None:
    name = f"{'d' * 90}/{'e' * (60 if format == tarfile.USTAR_FORMAT else 190)}.jpg"
    (tmp_path / "x.tar").write_bytes(tar_of({name: b"1", "b.jpg": b"2"}, format=format))
    assert sorted(by_name(listed(tmp_path / "x.tar")[0])) == ["x.tar/b.jpg", f"x.tar/{name}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_listed_once_with_the_bytes_that_came_last(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jpg", b"old")
            archive.writestr("a.jpg", b"new")
    else:
        with tarfile.open(fileobj=buffer, mode="w" if kind == "tar" else "w:gz") as packed:
            for name, data in (("a.jpg", b"old"), ("./a.jpg", b"new")):
                info = tarfile.TarInfo(name)
                info.size = 3
                packed.addfile(info, io.BytesIO(data))
    (tmp_path / f"x.{kind}").write_bytes(buffer.getvalue())
    (entry,), notes = listed(tmp_path / f"x.{kind}")
    assert read_bytes(entry.uri) == b"new"
    assert notes == ["1 members are replaced by later ones of the same name in their archive"]


def awkward_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, type_ in (
            ("../evil.jpg", tarfile.REGTYPE),
            ("a/../../evil.jpg", tarfile.REGTYPE),
            ("/etc/evil.jpg", tarfile.REGTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("device.jpg", tarfile.CHRTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("link", tarfile.SYMTYPE),
            ("folder.jpg", tarfile.DIRTYPE),
            ("inner.tar", tarfile.REGTYPE),
            ("film.mp4", tarfile.REGTYPE),
            ("empty.jpg", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.jpg")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"good"))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_members_that_are_no_plain_files_or_lead_out_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{kind}").write_bytes(gzip.compress(awkward_tar()) if kind == "tar.gz" else awkward_tar())
    entries, notes = listed(tmp_path / f"x.{kind}")
    refused = ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "link.jpg", "hard.jpg", "device.jpg", "pipe.jpg"]
    codes = {f"x.{kind}/{name}": "UNSUPPORTED_FORMAT" for name in refused}
    codes |= {f"x.{kind}/empty.jpg": "ZERO_SIZE_FILE", f"x.{kind}/good.jpg": None}
    assert by_name(entries) == codes
    assert all(e.error and e.error.startswith("refused: ") for e in entries if e.error_code == "UNSUPPORTED_FORMAT")
    assert notes == [
        "archives or videos inside of archives, not opened: 1 .mp4, 1 .tar",
        "in archives, not images by their names, left out: 1 without extension",
    ]


def test_what_a_zip_hides_is_refused_with_its_reason(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name in ("../evil.jpg", "..\\evil.jpg", "C:/evil.jpg", "secret.jpg", "good.jpg"):
            archive.writestr(name, b"good")
        archive.writestr(zipfile.ZipInfo("bz2.jpg"), b"good", zipfile.ZIP_BZIP2)
    data = bytearray(buffer.getvalue())
    for name_at, flags_at in ((30, 6), (46, 8)):  # the local and the central header of secret.jpg say: encrypted
        at = data.find(b"secret.jpg", 0 if name_at == 30 else data.find(b"PK\1\2")) - name_at
        data[at + flags_at] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    found = {e.filename: e.error for e in listed(tmp_path / "x.zip")[0]}
    assert found.pop("x.zip/good.jpg") is None
    assert len(found) == 6 and all(error and error.startswith("refused: ") for error in found.values())
    assert found["x.zip/secret.jpg"] == "refused: encrypted" and "link" in str(found["x.zip/link.jpg"])


def test_bombs_are_refused_before_a_byte_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratio.jpg", b"x" * 100)
        archive.writestr("size.jpg", b"x" * 100)
        archive.writestr("good.jpg", b"good")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for name, size in ((b"ratio.jpg", 2**29), (b"size.jpg", MAX_MEMBER_BYTES + 1)):
        at = data.rfind(name) - 46
        data[at + 24 : at + 28] = struct.pack("<L", size)
    (tmp_path / "x.zip").write_bytes(data)
    codes = by_name(listed(tmp_path / "x.zip")[0])
    assert codes == {
        "x.zip/good.jpg": None,
        "x.zip/ratio.jpg": "IMAGE_TOO_LARGE",
        "x.zip/size.jpg": "IMAGE_TOO_LARGE",
    }


def test_a_member_that_unpacks_to_more_or_less_than_it_says_is_a_read_error(tmp_path: Path) -> None:
    for number, size in enumerate((50, 150)):
        data = bytearray(zip_of({"a.jpg": b"x" * 100}))
        at = data.rfind(b"a.jpg") - 46 + 24
        data[at : at + 4] = struct.pack("<L", size)
        (tmp_path / f"{number}.zip").write_bytes(data)
        (entry,), _ = listed(tmp_path / f"{number}.zip")
        with pytest.raises(ImageError) as raised:
            read_bytes(entry.uri)
        assert raised.value.code == "READ_ERROR" and "directory" in str(raised.value)


def test_members_that_lie_one_over_another_are_a_bomb(tmp_path: Path) -> None:
    data = bytearray(zip_of({"a.jpg": noise(500), "b.jpg": noise(500, 1)}, zipfile.ZIP_STORED))
    at = data.rfind(b"b.jpg") - 46 + 42
    data[at : at + 4] = struct.pack("<L", 100)  # into the bytes of a.jpg
    (tmp_path / "x.zip").write_bytes(data)
    entries, notes = listed(tmp_path / "x.zip")
    assert by_name(entries)["x.zip"] == "READ_ERROR" and "one over another" in notes[0]


def test_a_tar_gz_that_unpacks_to_a_thousand_times_its_size_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.gzip_stream._ENDLESS_BYTES", 2**20)
    (tmp_path / "x.tgz").write_bytes(gzip.compress(tar_of({"a.jpg": noise(100), "b.bin": bytes(2**25), "c.jpg": b"c"})))
    entries, notes = listed(tmp_path / "x.tgz")
    assert by_name(entries) == {"x.tgz": "READ_ERROR", "x.tgz/a.jpg": None}
    assert "refused" in notes[0]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_member_that_is_a_bomb_costs_nobody_else_a_row(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdup_dagster.sources.archive.MIN_BOMB_BYTES", 2**20)
    files = {"a.jpg": noise(5000), "b.jpg": bytes(2**22), "c.jpg": bytes(2**22), "d.jpg": noise(5000, 1)}
    path = tmp_path / f"x.{kind}"
    path.write_bytes(archive_of(kind, files))
    for _ in range(2):  # the second listing goes by what the first one kept
        entries, notes = listed(path)
        codes = [entry.error_code for entry in entries]
        assert codes == [None, "IMAGE_TOO_LARGE", "IMAGE_TOO_LARGE", None] and not notes
        assert read_bytes(entries[3].uri) == files["d.jpg"]


def members(count: int = 6, size: int = 3000) -> Files:
    return {f"{number}.jpg": noise(size, number) for number in range(count)}


@pytest.mark.parametrize("kind", KINDS)
def test_of_an_archive_that_is_cut_off_what_is_there_is_kept_and_the_rest_is_told(kind: str, tmp_path: Path) -> None:
    whole, files = archive_of(kind, members()), members()
    good_before = 0
    for share in (0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.999):
        path = tmp_path / f"{share}.{kind}"
        path.write_bytes(whole[: int(len(whole) * share)])
        entries, notes = listed(path)
        codes = by_name(entries)
        good = [e for e in entries if e.error_code is None]
        is_told = set(codes.values()) & {"READ_ERROR", "ZERO_SIZE_FILE"} or any("cut off" in note for note in notes)
        assert is_told or len(good) == len(files)  # the last bytes of a tar are but zeros
        assert [read_bytes(e.uri) for e in good] == [files[e.filename.partition("/")[2]] for e in good]
        assert len(good) >= good_before
        good_before = len(good)
    assert good_before >= 5


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_the_member_that_a_cut_goes_through_has_a_row_of_its_own(kind: str, tmp_path: Path) -> None:
    plain = tar_of(members())[: 2 * 3584 + 1000]
    data = plain if kind == "tar" else gzip.compress(plain)
    (tmp_path / f"x.{kind}").write_bytes(data)
    entries, notes = listed(tmp_path / f"x.{kind}")
    assert by_name(entries) == {f"x.{kind}/0.jpg": None, f"x.{kind}/1.jpg": None, f"x.{kind}/2.jpg": "READ_ERROR"}
    assert "it ends within the member" in notes[0]


def test_a_tar_that_is_damaged_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    data = bytearray(tar_of(members()))
    data[3 * 3584 : 3 * 3584 + 512] = noise(512)
    (tmp_path / "x.tar").write_bytes(data)
    entries, notes = listed(tmp_path / "x.tar")
    assert by_name(entries) == {"x.tar": "READ_ERROR", **{f"x.tar/{n}.jpg": None for n in range(3)}}
    assert "no header of a member at byte 10752" in notes[0] and "3 images of it are known" in notes[0]


def test_what_is_no_archive_at_all_is_a_row_that_says_so(tmp_path: Path) -> None:
    for name in ("a.tar", "b.zip", "c.tgz"):
        (tmp_path / name).write_bytes(noise(5000))
    (tmp_path / "d.tar").write_bytes(b"")
    entries, _ = listed(tmp_path)
    assert by_name(entries) == {
        "a.tar": "READ_ERROR",
        "b.zip": "READ_ERROR",
        "c.tgz": "READ_ERROR",
        "d.tar": "ZERO_SIZE_FILE",
    }
    assert all(entry.error for entry in entries)


def test_a_tar_without_end_is_told_though_all_of_it_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(members(2))[: 2 * 3584])
    entries, notes = listed(tmp_path / "x.tar")
    assert set(by_name(entries).values()) == {None} and "no end mark" in notes[0]


def test_a_zip_behind_other_bytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(noise(777) + zip_of(members(2)))
    assert [read_bytes(e.uri) for e in listed(tmp_path / "x.zip")[0]] == list(members(2).values())


def test_a_zip_of_64_bit_sizes_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"good")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        for number in range(2**16):
            archive.writestr(f"{number}.jpg", b"")
    assert [read_bytes(e.uri) for e in listed(tmp_path / "x.zip")[0]] == [b"good"]
    assert len(listed(tmp_path / "y.zip")[0]) == 2**16


def test_several_gzip_streams_in_a_row_are_one_archive(tmp_path: Path) -> None:
    plain = tar_of(members())
    (tmp_path / "x.tgz").write_bytes(
        b"".join(gzip.compress(plain[at : at + 1000]) for at in range(0, len(plain), 1000))
    )
    assert [read_bytes(e.uri) for e in listed(tmp_path / "x.tgz")[0]] == list(members().values())


class _Counted:
    """A file that counts what is read of it."""

    total = 0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        _Counted.total += len(data)
        return data


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[_Counted]:
    door = opening.open_binary
    monkeypatch.setattr(opening, "open_binary", lambda uri: _Counted(door(uri)))
    _Counted.total = 0
    return _Counted


def test_a_tar_gz_is_never_unpacked_from_its_start_for_every_member(tmp_path: Path, counted: type[_Counted]) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(tar_of(members(200, 60_000), "w:gz"))  # 12 MB that do not compress
    entries, _ = listed(path)
    size = path.stat().st_size
    assert counted.total < 1.1 * size
    counted.total = 0
    with keeping_open(2):  # as the pass does it: in the order of the archive
        for entry in sorted(entries, key=lambda e: int(e.filename.partition("/")[2][:-4])):
            read_bytes(entry.uri)
    assert counted.total < 1.2 * size
    counted.total = 0
    for entry in entries[::20]:  # as a gallery does it: here and there
        read_bytes(entry.uri)
    assert counted.total < 10 * 2.5e6


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_goes_away_or_is_cut_after_the_listing_is_a_read_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(archive_of(kind, members()))
    entries, _ = listed(path)
    path.write_bytes(archive_of(kind, members())[:100])
    for entry in entries:
        with pytest.raises(ImageError, match="archive") as raised:
            read_bytes(entry.uri)
        assert raised.value.code == "READ_ERROR"
    path.unlink()
    with pytest.raises(ImageError) as raised:
        read_bytes(entries[0].uri)
    assert raised.value.code == "MISSING_FILE"


def test_a_broken_extended_header_ends_the_archive_not_the_run(tmp_path: Path) -> None:
    def with_pax(change: Callable[[bytes], bytes]) -> bytes:
        data = tar_of({"a.jpg": b"1", "\u00e9" * 80 + ".jpg": b"2"})
        at = data.index(b" path=") - 3
        return data[:at] + change(data[at : at + 512]) + data[at + 512 :]

    for number, change in enumerate((lambda d: b"999" + d[3:], lambda d: b"-12" + d[3:], lambda d: b"\0" * 3 + d[3:])):
        (tmp_path / f"{number}.tar").write_bytes(with_pax(change))
        entries, notes = listed(tmp_path / f"{number}.tar")
        assert by_name(entries)[f"{number}.tar/a.jpg"] is None
        assert "broken extended header" in notes[0]
