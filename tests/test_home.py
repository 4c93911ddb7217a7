"""The Dagster home: made with our dagster.yaml on first use; one that is there is never changed."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from fastdup_dagster.home import dagster_home, ensure_home


def test_the_default_is_in_the_users_home(monkeypatch, tmp_path):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert dagster_home() == tmp_path / ".fastdup_dagster"


def test_a_new_home_gets_our_dagster_yaml_and_dagster_accepts_it(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "new"))
    ensure_home()
    assert (tmp_path / "new" / "dagster.yaml").read_bytes() == (Path(__file__).parents[1] / "dagster.yaml").read_bytes()
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "new")
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure


def test_a_home_in_use_without_a_dagster_yaml_gets_ours_and_keeps_the_rest(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "history").mkdir()
    ensure_home()
    assert (tmp_path / "history").is_dir()
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled


def test_a_dagster_yaml_that_is_there_is_left_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    ensure_home()
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_a_home_that_cannot_be_made_is_named_with_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OSError, match=r"Dagster home .*/file/home: .*DAGSTER_HOME"):
        ensure_home()
