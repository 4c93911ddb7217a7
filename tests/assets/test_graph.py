"""The asset graph as a committed snapshot: keys, dependencies, partitions, checks, groups, kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from fastdup_dagster.assets.checks import CHECKS, STRUCTURE
from fastdup_dagster.definitions import build_definitions
from fastdup_dagster.schemas import TABLES

SNAPSHOT = Path(__file__).with_name("asset_graph.json")


def graph() -> dict[str, Any]:
    made = build_definitions().resolve_asset_graph()
    nodes = {}
    for node in sorted(made.asset_nodes, key=lambda node: node.key):
        checks = [made.get_check_spec(key) for key in sorted(node.check_keys)]
        nodes[node.key.to_user_string()] = {
            "parents": sorted(key.to_user_string() for key in node.parent_keys),
            "partitions": node.partitions_def.name if node.partitions_def else None,
            "checks": {spec.name: "blocking" if spec.blocking else "warning" for spec in checks},
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": sorted(node.owners),
            "code_version": node.code_version,
            "materializable": node.is_materializable,
        }
    return nodes


def test_the_graph_is_the_one_that_was_committed():
    current = json.dumps(graph(), indent=2) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(current)
    assert current == SNAPSHOT.read_text(), "if that is intended: UPDATE_SNAPSHOTS=1 pytest tests/assets/test_graph.py"


def test_every_asset_has_a_blocking_check_an_owner_a_description_and_its_columns():
    made = build_definitions().resolve_asset_graph()
    for table, checks in CHECKS.items():
        node = made.get(dg.AssetKey(table))
        assert {key.name for key in node.check_keys} == set(checks)
        blocking = {key.name for key in node.check_keys if made.get_check_spec(key).blocking}
        assert blocking == set(STRUCTURE[table])
        assert blocking
        assert node.description
        assert node.owners == ["team:data-quality"]
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == TABLES[table].names
        assert all(column.description for column in columns)


def test_all_assets_have_checks_and_a_schema():
    nodes = build_definitions().resolve_asset_graph().asset_nodes
    made = {node.key.to_user_string() for node in nodes if node.is_materializable}
    assert made == set(CHECKS)
    assert made <= set(TABLES)


def test_definitions_load_without_a_warning_and_without_great_expectations():
    code = (
        "import warnings; warnings.simplefilter('error', UserWarning); warnings.simplefilter('error', FutureWarning)\n"
        "import sys, dagster as dg\n"
        "from fastdup_dagster.definitions import defs\n"
        "dg.Definitions.validate_loadable(defs)\n"
        "assert 'great_expectations' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
