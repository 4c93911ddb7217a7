"""Lists of paths: every row is a row, in the order given, whatever the file's dialect."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.images import read_bytes
from fastdup_dagster.sources import ListSource, open_source
from fastdup_dagster.sources.path_list import read_list_file

AWKWARD = ["a b.jpg", "a,b.jpg", 'a"b.jpg', "a'b.jpg", "a\tb.jpg", "a#b.jpg", "%41.jpg", "<script>.jpg", " lead.jpg"]
AWKWARD += ["n" * 236 + ".jpg", "\u00e9\u2028.jpg", "a\x0bb.jpg", "a;b.jpg", "trail.jpg "]


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def contents(source: ListSource) -> list[bytes]:
    return [read_bytes(entry.uri) for entry in source.entries()]


def test_a_text_file_names_one_path_a_row_relative_to_itself(tmp_path: Path) -> None:
    write(tmp_path, *AWKWARD)
    (tmp_path / "list.txt").write_text("\n".join(AWKWARD) + "\n\n", encoding="utf-8")
    source = open_source(tmp_path / "list.txt")
    assert contents(source) == [name.encode() for name in AWKWARD]
    assert [entry.filename for entry in source.entries()] == AWKWARD


def test_rows_end_at_line_feeds_with_or_without_a_carriage_return(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\n\r\nc.jpg")
    assert read_list_file(tmp_path / "list.txt") == ["a.jpg", "b.jpg", "c.jpg"]


def test_names_that_are_not_utf8_can_be_listed(tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/caf\xe9.jpg"
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"latin")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    source = open_source(tmp_path / "list.txt")
    assert contents(source) == [b"latin"]
    assert [entry.filename for entry in source.entries()] == ["caf\\xe9.jpg"]


@pytest.mark.parametrize("header", ["filename", "IMG_Filename", " path "])
def test_a_header_is_no_path(tmp_path: Path, header: str) -> None:
    for suffix in ("txt", "csv"):
        (tmp_path / f"list.{suffix}").write_text(f"{header}\na.jpg\n")
        assert read_list_file(tmp_path / f"list.{suffix}") == ["a.jpg"]


def test_a_csv_column_is_found_by_its_header_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('label,filename,split\ncat,"a,b.jpg",train\n"d""og",c.jpg,test\n,,\nx\n')
    assert read_list_file(tmp_path / "list.csv") == ["a,b.jpg", "c.jpg"]


def test_a_csv_without_header_gives_its_first_column(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('a.jpg,cat\n"b,c.jpg",dog\n')
    assert read_list_file(tmp_path / "list.csv") == ["a.jpg", "b,c.jpg"]


def test_an_unquoted_row_with_commas_that_names_a_file_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, "x,y.jpg")
    (tmp_path / "list.csv").write_text("x,y.jpg\nz.jpg,cat\n")
    assert read_list_file(tmp_path / "list.csv") == ["x,y.jpg", "z.jpg"]


def test_a_csv_row_longer_than_a_file_name_may_be_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"a.jpg,{'a long caption ' * 40}\n")
    assert read_list_file(tmp_path / "list.csv") == ["a.jpg"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_any_names_written_by_a_csv_writer_are_read_back(tmp_path_factory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
            [["label", "filename"], *(["x", n] for n in names)]
        )
    assert read_list_file(path) == [name.replace("\r\n", "\n") for name in names]


def test_a_list_file_without_paths_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name, text in {"a.txt": "", "b.csv": "filename\n", "c.txt": "\n  \n"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{name}: it names no path"):
            read_list_file(tmp_path / name)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"text"])
def test_an_image_given_as_a_list_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.PNG").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.PNG is an image, not a text file"):
        open_source(tmp_path / "a.PNG")


def test_coco_is_no_list_of_files_and_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(ValueError, match=r"instances\.json is no list of files: give COCO as annotations"):
        open_source(tmp_path / "instances.json")


@pytest.mark.parametrize("row", ["https://example.com/a.jpg", "gs://bucket/a.jpg"])
def test_a_row_of_another_scheme_is_refused_by_name(tmp_path: Path, row: str) -> None:
    (tmp_path / "list.txt").write_text(f"a.jpg\n{row}\n")
    for source in (open_source(tmp_path / "list.txt"), open_source([row])):
        with pytest.raises(NotImplementedError, match=re.escape(repr(row))):
            list(source.entries())


def test_up_behind_a_link_is_up_from_where_the_link_leads(tmp_path: Path) -> None:
    write(tmp_path, "far/away/there/a.jpg", "far/away/x.jpg", "x.jpg")
    (tmp_path / "ln").symlink_to(tmp_path / "far" / "away" / "there")
    (tmp_path / "list.txt").write_text("ln/../x.jpg\nx.jpg\nln/a.jpg\nfar/../x.jpg\n")
    source = open_source(tmp_path / "list.txt")
    assert contents(source) == [b"far/away/x.jpg", b"x.jpg", b"far/away/there/a.jpg"]
    assert source.notes == ["1 rows repeat a path above them and were left out"]


def test_list_items_may_start_at_home_and_may_be_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.jpg", "~b.jpg", "c.jpg")
    assert contents(open_source(["~/a.jpg", "~b.jpg", os.fsencode(tmp_path / "c.jpg")])) == [
        b"a.jpg",
        b"~b.jpg",
        b"c.jpg",
    ]


def test_a_broken_csv_is_a_value_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('filename\n"' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"list\.csv: field larger"):
        read_list_file(tmp_path / "list.csv")


def test_a_path_that_is_repeated_is_listed_once_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "sub/b.jpg")
    given_paths = [
        "a.jpg",
        "./a.jpg",
        "sub/../a.jpg",
        str(tmp_path / "a.jpg"),
        f"file://{tmp_path}/a.jpg",
        "sub",
        "sub/b.jpg",
    ]
    source = ListSource(given_paths, tmp_path, "test")
    assert [entry.filename for entry in source.entries()] == ["a.jpg", "sub/b.jpg"]
    assert source.notes == ["5 rows repeat a path above them and were left out"]


def test_named_files_are_tried_whatever_their_extension_and_folders_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "z.dat", "folder/b.jpg", "folder/a.jpg", "folder/c.txt")
    source = ListSource(["z.dat", "folder/"], tmp_path, "test")
    assert [entry.filename for entry in source.entries()] == ["z.dat", "folder/a.jpg", "folder/b.jpg"]
    assert source.notes == ["not images by their names, left out: 1 .txt"]


def test_a_path_that_leads_nowhere_keeps_its_row(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "empty.jpg").touch()
    source = ListSource(["gone.jpg", "broken.jpg", "nul\0.jpg", "n" * 300, "empty.jpg", "a.jpg"], tmp_path, "test")
    codes = [entry.error_code for entry in source.entries()]
    assert codes == ["MISSING_FILE"] * 4 + ["ZERO_SIZE_FILE", None]


def test_a_python_list_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jpg", "new\nline.jpg")
    monkeypatch.chdir(tmp_path)
    source = open_source(["a.jpg", Path("new\nline.jpg"), tmp_path / "a.jpg"])
    assert contents(source) == [b"a.jpg", b"new\nline.jpg"]


def test_the_input_may_be_a_file_uri(tmp_path: Path) -> None:
    write(tmp_path, "a folder/a.jpg")
    assert contents(open_source(f"file://{tmp_path}/a%20folder")) == [b"a folder/a.jpg"]


@pytest.mark.parametrize("given_input", ["no/such/folder", Path("no/such/list.txt")])
def test_an_input_that_is_not_there_is_named(given_input: object) -> None:
    with pytest.raises(FileNotFoundError, match="no/such"):
        open_source(given_input)


def test_inputs_of_another_kind_are_refused_by_name() -> None:
    for wrong in (None, 7, {"a": 1}):
        with pytest.raises(ValueError, match="input_dir="):
            open_source(wrong)
