"""What only some runs need is not loaded by the others."""

from __future__ import annotations

import subprocess
import sys


def test_a_local_run_loads_nothing_of_object_stores() -> None:
    code = "import sys, fastdup_dagster.analysis; print({'boto3', 'botocore', 'urllib3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
