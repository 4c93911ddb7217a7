"""What each image of a folder shows, in words, and the images that a word stands for.

    python examples/caption_images.py IMAGES --find dog --model tags --results RESULTS

Tags of the bundled classifier need no download; `--model vitgpt2` or `blip` write sentences, once their model is in the
model store (`fastdup-dagster models list`). Captions are kept in RESULTS: a second run captions only what is new.
"""

import argparse
from pathlib import Path

import fastdup_dagster as fastdup


def main() -> None:
    """Analyse the folder, caption its images, and look for a word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--find", help="only images with this word in their caption")
    parser.add_argument("--model", default="tags", help="automatic, tags, vitgpt2, blip, or the folder of a model")
    parser.add_argument("--results", type=Path, default=Path("captions"))
    arguments = parser.parse_args()

    fd = fastdup.create(arguments.results, arguments.images)
    fd.run(print_summary=False)
    frame = fd.caption(arguments.model)
    captions = frame[["filename", "caption", "error"]]
    if arguments.find:
        captions = captions[captions["caption"].str.contains(arguments.find, case=False, regex=False, na=False)]
    for row in captions.itertuples(index=False):
        print(f"{row.filename}  {row.caption if isinstance(row.caption, str) else row.error}")
    print(f"{len(captions)} of {len(frame)} images, captioned by {frame['model'].iloc[0].partition('@')[0]}")
    frame.to_csv(arguments.results / "captions.csv", index=False)


if __name__ == "__main__":
    main()
