"""Images of a test set that also stand in the training set, as copies or edited.

    python examples/find_leaks.py TRAIN TEST --results RESULTS

A second run reads only what changed. In Dagster, `fastdup-dagster run` does this for a folder with train/ and test/.
"""

import argparse
from pathlib import Path

import polars as pl

import fastdup_dagster as fastdup
from fastdup_dagster.settings import Settings
from fastdup_dagster.stages.split_leakage import leak_rates, split_leakage
from fastdup_dagster.storage import TableStore
from fastdup_dagster.work_dir import KEY


def main() -> None:
    """Analyse each folder alone, then compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--results", type=Path, default=Path("leaks"))
    parser.add_argument("--threshold", type=float, default=0.9, help="similarity over it (0.9)")
    arguments = parser.parse_args()

    vectors, statistics, names = {}, {}, {}
    for split, folder in (("test", arguments.test), ("train", arguments.train)):
        fd = fastdup.create(arguments.results / split, folder)
        fd.run(print_summary=False)
        store = TableStore(fd.work_dir)
        vectors[split] = store.read("embeddings", KEY)
        statistics[split] = store.read("img_stats", KEY)
        names[split] = dict(fd.annotations()[["index", "filename"]].itertuples(index=False))

    leaks = split_leakage(vectors, statistics, Settings(threshold=arguments.threshold))
    for pair in leaks.filter(pl.col("kind") != "similar").iter_rows(named=True):
        test, train = names["test"][pair["from"]], names["train"][pair["to"]]
        print(f"{pair['kind']:17} {pair['distance']:.3f}  {test}  {train}")
    sizes = {split: table["embedding"].count() for split, table in vectors.items()}
    for rate in leak_rates(leaks, sizes).iter_rows(named=True):
        print(f"{rate['rate_from']:.1%} of {sizes['test']} test images are in the training set")


if __name__ == "__main__":
    main()
