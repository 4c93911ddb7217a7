"""Owners and freshness policies of all assets are what the environment of the code location says."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from fastdup_dagster.assets.checks import CHECKS
from fastdup_dagster.assets.policies import freshness, owners
from fastdup_dagster.definitions import build_definitions


def nodes() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_definitions().resolve_all_asset_specs()}


def test_without_a_word_a_team_owns_all_tables_and_none_ages(monkeypatch):
    monkeypatch.delenv("FASTDUP_OWNERS", raising=False)
    monkeypatch.setenv("FASTDUP_FRESH_HOURS", "")
    made = nodes()
    assert {tuple(made[table].owners) for table in CHECKS} == {("team:data-quality",)}
    assert {spec.freshness_policy for spec in made.values()} == {None}


def test_owners_are_people_and_teams_and_nothing_else(monkeypatch):
    monkeypatch.setenv("FASTDUP_OWNERS", " ann@example.org, team:vision,")
    assert {tuple(nodes()[table].owners) for table in CHECKS} == {("ann@example.org", "team:vision")}
    for wrong in ("ann", "team:", "team:a,bob"):
        monkeypatch.setenv("FASTDUP_OWNERS", wrong)
        with pytest.raises(ValueError, match=r"FASTDUP_OWNERS=.* is neither; expected e-mail"):
            owners()


def test_what_an_analysis_makes_ages_and_nothing_that_was_there_before_is_lost(monkeypatch):
    monkeypatch.delenv("FASTDUP_FRESH_HOURS", raising=False)
    before = nodes()
    monkeypatch.setenv("FASTDUP_FRESH_HOURS", "48")
    policy = dg.FreshnessPolicy.time_window(timedelta(hours=48), timedelta(hours=24))
    made = nodes()
    ageing = set(CHECKS) - {"captions", "detections"}  # not every data set has them
    assert {name for name, spec in made.items() if spec.freshness_policy == policy} == ageing
    assert {name for name, spec in made.items() if spec.freshness_policy} == ageing
    for name, spec in made.items():
        assert spec.replace_attributes(freshness_policy=None) == before[name]
    for wrong in ("soon", "0", "-3", "nan", "1e9"):
        monkeypatch.setenv("FASTDUP_FRESH_HOURS", wrong)
        with pytest.raises(ValueError, match=r"FASTDUP_FRESH_HOURS=.*expected hours"):
            freshness()
