"""A pass does not begin where a machine does not see what it has to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdup_dagster.sharding.sight import look, require_sight


def test_a_machine_that_sees_all_is_taken(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    require_sight([look(str(tmp_path / "token"), "t", [str(tmp_path)])], tmp_path)


def test_another_folder_at_the_same_path_is_none(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of another pass")
    for token in ("token", "nothing"):
        seen = look(str(tmp_path / token), "t", [])
        with pytest.raises(RuntimeError, match=f"{seen['host']} cannot see the folder .*{tmp_path}.*FASTDUP_SCRATCH"):
            require_sight([seen], tmp_path)


def test_images_that_are_not_mounted_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    seen = look(str(tmp_path / "token"), "t", [str(tmp_path / "a.jpg")])
    with pytest.raises(RuntimeError, match=r"cannot see .*a\.jpg: mount the images"):
        require_sight([seen], tmp_path)
