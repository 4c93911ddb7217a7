"""Materialises one split with the Dagster assets, in this process, and reads a published table.

    python examples/dagster_in_python.py FOLDER --name photos --split train

FOLDER/train holds the images. The run is recorded in the Dagster home: `fastdup-dagster dev` shows it.
"""

import argparse
from pathlib import Path

import dagster as dg
import polars as pl

from fastdup_dagster.assets.partitions import add_partitions
from fastdup_dagster.datasets import DatasetEntry, partition_key, register
from fastdup_dagster.definitions import defs
from fastdup_dagster.home import ensure_home
from fastdup_dagster.storage import TableStore


def main() -> None:
    """Register the data set, run the job of a split, read the pairs that it published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="photos")
    parser.add_argument("--split", default="train")
    arguments = parser.parse_args()

    ensure_home()
    entry = DatasetEntry(root=str(arguments.folder.absolute()), splits={arguments.split: arguments.split})
    register(arguments.name, entry)
    key = partition_key(arguments.name, arguments.split)
    with dg.DagsterInstance.get() as instance:
        add_partitions(instance, arguments.name, [arguments.split])
        result = defs.resolve_job_def("analyse_split").execute_in_process(
            instance=instance,
            partition_key=key,
            run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
        )

    for check in result.get_asset_check_evaluations():
        print(f"{'passed' if check.passed else 'FAILED'}  {check.asset_key.to_user_string()}  {check.check_name}")
    store = TableStore(entry.store_root())
    pairs = pl.read_parquet(store.path("similarity", key))
    print(f"{pairs.height} pairs in {store.path('similarity', key)}")
    print(pairs.group_by("kind").len().sort("kind"))
    print("report:", store.pages(key) / "report.html")


if __name__ == "__main__":
    main()
