"""Writes the list of the files of a folder that are worth keeping: no broken ones, and of exact copies only one.

    python examples/clean_dataset.py FOLDER keep.txt

The list can be analysed itself: `fastdup-dagster run keep.txt`. Nothing is deleted.
"""

import argparse
from pathlib import Path

import fastdup_dagster as fastdup


def main() -> None:
    """Analyse, choose, write the list, and say what was dropped and why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("keep", type=Path, help="the list, a path a row")
    parser.add_argument("--results", default="results")
    arguments = parser.parse_args()

    fd = fastdup.create(arguments.results, arguments.folder.absolute())
    fd.run(print_summary=False)

    for broken in fd.invalid_instances().itertuples():
        print(f"broken  {broken.filename}  {broken.error_code}")

    # Hashes find every copy, however many there are; similarity() has the k nearest of each image only.
    hashes = fd.tables.img_stats.select("index", "content_hash").to_pandas()
    files = fd.annotations().merge(hashes, on="index")
    first = files.groupby("content_hash")["filename"].transform("first")
    copies = files[files["filename"] != first]
    for copy in copies.index:
        print(f"copy    {files.at[copy, 'filename']}  of  {first[copy]}")

    kept = files.drop(copies.index)["filename"]
    arguments.keep.write_text("".join(f"{name}\n" for name in kept), encoding="utf-8")
    print(f"kept    {len(kept)} of {fd.num_instances(valid_only=False)} files: {arguments.keep}")


if __name__ == "__main__":
    main()
