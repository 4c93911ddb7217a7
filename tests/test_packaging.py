"""What must be in the wheel is listed, and what is public exists."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import fastdup_dagster

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {name: ROOT / SETUPTOOLS["package-dir"].get(name, name.replace(".", "/")) for name in SETUPTOOLS["packages"]}
MODULES = sorted(
    found.name for found in pkgutil.walk_packages(fastdup_dagster.__path__, "fastdup_dagster.") if found.name
)


def test_every_folder_with_code_is_a_package_of_the_wheel() -> None:
    with_code = {
        path.parent for top in ("fastdup_dagster", "assets", "resources") for path in (ROOT / top).rglob("*.py")
    }
    assert with_code == set(FOLDERS.values())
    assert all((folder / "__init__.py").is_file() for folder in FOLDERS.values())


def test_every_file_beside_the_code_is_package_data_of_the_wheel() -> None:
    patterns = SETUPTOOLS["package-data"]
    left_out = [
        path.relative_to(ROOT)
        for name, folder in FOLDERS.items()
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
        if not any(fnmatch(path.name, pattern) for pattern in patterns.get(name, []))
    ]
    assert left_out == []


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_declares_public_exists(name: str) -> None:
    module = importlib.import_module(name)
    declared = getattr(module, "__all__", [])
    assert [entry for entry in declared if not hasattr(module, entry)] == []
    assert len(set(declared)) == len(declared)
    assert module.__doc__, f"{name} does not say what it is for"


def test_the_engine_knows_no_dagster() -> None:
    engine = ("sources", "images", "models", "sharding", "stages", "demo")
    files = [path for part in engine for path in (ROOT / "fastdup_dagster" / part).rglob("*.py")]
    files += [ROOT / "fastdup_dagster" / name for name in ("storage.py", "schemas.py", "settings.py")]
    with_dagster = [
        path.relative_to(ROOT)
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("import dagster", "from dagster"))
    ]
    assert with_dagster == []


def test_nothing_is_pickled_evaluated_or_run_through_a_shell() -> None:
    forbidden = ("import pickle", "import marshal", "shell=True", "os.system(", "allow_pickle=True", "yaml.load(")
    found = [
        (path.relative_to(ROOT), word)
        for folder in FOLDERS.values()
        for path in folder.glob("*.py")
        for word in forbidden
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == []
