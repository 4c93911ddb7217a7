"""fastdup and fastdup_dagster side by side: each in its own Python, through the V1 API, in fresh processes."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from processes import Usage, measured, plain_environment

Vectors = npt.NDArray[np.float32]

_RUNNER = Path(__file__).resolve().with_name("v1_run.py")
# fastdup reports to a server unless told not to, and asks another one for its newest version whenever it is
# imported: a proxy that refuses at once keeps both from costing it time.
_FASTDUP_ENVIRONMENT = {"SENTRY_OPT_OUT": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Tool:
    """One of the two.

    Attributes:
        name: for people.
        python: interpreter of its environment.
        module: what is imported.
        environment: variables that it needs.
        options: arguments of `run()` beyond the threads.
    """

    name: str
    python: Path
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, images: Path, scratch: Path, threads: int, *flags: str | Path) -> tuple[Usage, dict[str, Any]]:
        """One analysis of a folder in a fresh process, results in a new folder below `scratch`.

        Returns:
            What it took, and what `v1_run.py` printed.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        # One home for all runs, as a user has: either tool finds there what it left for the next run.
        home = scratch / f"home_{self.module}"
        home.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="run_", dir=scratch)) / "work"
        command = [self.python, _RUNNER, self.module, images, work, "--threads", str(threads)]
        command += ["--options", json.dumps(dict(self.options)), *flags]
        usage = measured(command, plain_environment(home, **self.environment), home)
        return usage, {**json.loads(usage.output.splitlines()[-1]), "work": str(work)}

    def vectors(self, images: Path, files: Sequence[Path], scratch: Path, threads: int) -> tuple[Vectors, Path]:
        """Feature vectors of the files of a folder, in the order of `files`, and the work_dir that they are in.

        Raises:
            ValueError: the tool gave no vector for some of them.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        stored = scratch / "vectors.npz"
        _, result = self.run(images, scratch, threads, "--vectors", stored)
        work = Path(result["work"])
        with np.load(stored) as found:
            rows = {
                _resolved(name, images, work): row for name, row in zip(found["names"], found["vectors"], strict=True)
            }
        missing = [path.name for path in files if path.resolve() not in rows]
        if missing:
            raise ValueError(f"{self.name} gave no vector for {len(missing)} of {len(files)} files, e.g. {missing[:3]}")
        return np.stack([rows[path.resolve()] for path in files]), work


def _resolved(name: str, images: Path, work: Path) -> Path:
    """The file that a tool means: it may name it from the root, from where it ran, or from the folder it read."""
    for base in (images, images.parent, work.parent, work):
        if (path := base / name).is_file():
            return path.resolve()
    raise FileNotFoundError(f"no such file: {name!r}")


def ours(options: Mapping[str, Any] | None = None, python: Path | None = None) -> Tool:
    """This project, in this Python or another one that it is installed in."""
    return Tool("fastdup_dagster", python or Path(sys.executable), "fastdup_dagster", options=options or {})


def fastdup(python: Path) -> Tool:
    """Fastdup from PyPI, in the Python of its own environment."""
    return Tool("fastdup", python.absolute(), "fastdup", _FASTDUP_ENVIRONMENT)


def add_fastdup_argument(parser: argparse.ArgumentParser, required: bool) -> None:
    """`--fastdup-python`, and how to come by one."""
    parser.add_argument(
        "--fastdup-python",
        type=Path,
        required=required,
        metavar="PYTHON",
        help="python of an environment of its own with fastdup: python3.11 -m venv FASTDUP; "
        "FASTDUP/bin/pip install fastdup==2.54; then FASTDUP/bin/python"
        + ("" if required else ". Without it only this project is measured"),
    )


def fastdup_version(tool: Tool, scratch: Path) -> str:
    """Version of fastdup in that environment, without importing it."""
    code = "import importlib.metadata as m; print(m.version('fastdup'))"
    return measured([tool.python, "-c", code], plain_environment(scratch), scratch).output.strip()
