"""Where this installation keeps its own things: the Dagster home, created on first use."""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

from fastdup_dagster.storage import write_atomically


def dagster_home() -> Path:
    """The folder that `DAGSTER_HOME` names, else `~/.fastdup_dagster`. It need not exist yet."""
    named = os.environ.get("DAGSTER_HOME")
    return Path(named).expanduser().absolute() if named else Path.home() / ".fastdup_dagster"


def ensure_home() -> Path:
    """Creates the Dagster home with this project's dagster.yaml, and makes Dagster use it.

    A dagster.yaml that is there is left as it is. Without one Dagster would run on its defaults, telemetry among them.

    Raises:
        OSError: if it cannot be, naming it and the remedy.
    """
    home = dagster_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            packaged = importlib.resources.files("fastdup_dagster.resources") / "dagster.yaml"
            write_atomically(home / "dagster.yaml", packaged.read_bytes())
    except OSError as error:
        raise OSError(f"Dagster home {home}: {error.strerror}; name another folder in DAGSTER_HOME") from error
    os.environ["DAGSTER_HOME"] = str(home)
    return home
