"""What a deployment decides for all assets at once: who owns them, and how old they may become.

Both are environment variables that are read when the code location is loaded, and applied to the specs of the assets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from fastdup_dagster.assets.jobs import SPLIT_ASSETS
from fastdup_dagster.variables import VariableError

OWNERS = "FASTDUP_OWNERS"
FRESH_HOURS = "FASTDUP_FRESH_HOURS"
DEFAULT_OWNERS = ("team:data-quality",)
_AGEING = frozenset(dg.AssetKey(table) for table in (*SPLIT_ASSETS, "split_leakage"))
_MOST_HOURS = 24 * 365 * 10


def with_policies(assets: Iterable[Any]) -> list[Any]:
    """The assets with owners, and with a freshness policy where one is wanted; sources have neither.

    Raises:
        ValueError: if one of the environment variables cannot be understood.
    """
    owned, fresh = owners(), freshness()

    def decided(spec: dg.AssetSpec) -> dg.AssetSpec:
        spec = spec.replace_attributes(owners=owned)
        return spec if fresh is None or spec.key not in _AGEING else spec.replace_attributes(freshness_policy=fresh)

    return [asset.map_asset_specs(decided) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets]


def owners() -> list[str]:
    """Who owns the assets: what FASTDUP_OWNERS says, separated by commas, else the team `data-quality`.

    Raises:
        ValueError: if one is neither an e-mail address nor a team.
    """
    said = os.environ.get(OWNERS, "")
    named = [owner.strip() for owner in said.split(",") if owner.strip()] or list(DEFAULT_OWNERS)
    for owner in named:
        try:
            dg.AssetSpec("any", owners=[owner])
        except dg.DagsterInvalidDefinitionError as error:
            wanted = "expected e-mail addresses and teams, such as ann@example.org,team:vision"
            raise VariableError(f"{OWNERS}={said!r}: {owner!r} is neither; {wanted}") from error
    return named


def freshness() -> dg.FreshnessPolicy | None:
    """The policy that FASTDUP_FRESH_HOURS asks for: a warning after half of that time without a materialisation.

    Dagster judges an asset as a whole, by the latest materialisation of any of its partitions.

    Raises:
        ValueError: if that is no number of hours, an hour or more.
    """
    said = os.environ.get(FRESH_HOURS)
    if not said:
        return None
    try:
        hours = float(said)
    except ValueError:
        hours = 0.0
    if not 1 <= hours <= _MOST_HOURS:
        raise VariableError(f"{FRESH_HOURS}={said!r}: expected hours, 1 to {_MOST_HOURS}; unset it for no policy")
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours), warn_window=timedelta(hours=hours / 2))
