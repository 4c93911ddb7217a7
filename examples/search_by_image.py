"""The images of a folder that are most like one image.

    python examples/search_by_image.py FOLDER IMAGE --k 5

The folder is analysed at the first call; after that the results are opened as they are. The image need not be in it.
"""

import argparse

import fastdup_dagster as fastdup


def main() -> None:
    """Search, print the names, write a page with the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("image")
    parser.add_argument("--results", default="results")
    parser.add_argument("--k", type=int, default=5, help="results at most (5)")
    parser.add_argument("--threshold", type=float, help="only images more alike than this")
    arguments = parser.parse_args()

    fd = fastdup.create(arguments.results, arguments.folder)
    try:
        fd.init_search(k=arguments.k, threshold=arguments.threshold)
    except RuntimeError:  # nothing was analysed here yet
        fd.run(print_summary=False)
        fd.init_search(k=arguments.k, threshold=arguments.threshold)

    found = fd.search(arguments.image)
    for name, similarity in zip(found["to"], found["distance"], strict=True):
        print(f"{similarity:.3f}  {name}")
    if len(found):
        print("with pictures:", fastdup.create_duplicates_gallery(found, fd.work_dir / "found.html", show=False))


if __name__ == "__main__":
    main()
