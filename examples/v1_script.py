"""A script for fastdup as fastdup's documentation shows it. One line is changed: the import.

    python examples/v1_script.py IMAGES ANNOTATIONS.csv RESULTS

ANNOTATIONS.csv has a column `filename`, relative to IMAGES, and may have `label`, `split` and any others.
"""

import argparse

import pandas as pd

import fastdup_dagster as fastdup


def main() -> None:
    """Analyse, look at every result, write every gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("annotations")
    parser.add_argument("results")
    arguments = parser.parse_args()

    fd = fastdup.create(work_dir=arguments.results, input_dir=arguments.images)
    fd.run(annotations=pd.read_csv(arguments.annotations), threshold=0.8, cc_threshold=0.8)
    fd.summary()

    print("\nInvalid:")
    print(fd.invalid_instances()[["filename", "error_code"]].to_string(index=False))

    pairs = fd.similarity(data=False)
    first, second, similarity = pairs.iloc[0]
    print(f"\n{len(pairs)} pairs, the most alike at {similarity:.3f}:")
    print(fd[first]["filename"], "and", fd[second]["filename"])

    outliers = fd.outliers()
    print("\nStrongest outlier:", outliers.iloc[0]["filename_outlier"])

    components, info = fd.connected_components()
    print(f"\n{len(components)} images in {len(info)} components:")
    print(components[["filename", "component_id", "mean_distance"]].to_string(index=False))

    statistics = fd.img_stats()
    print("\nBlurriest:", statistics.sort_values("blur").iloc[0]["filename"])

    print("\nGalleries:")
    print(fd.vis.duplicates_gallery(num_images=5))
    print(fd.vis.outliers_gallery(num_images=5))
    print(fd.vis.component_gallery(num_images=5))
    print(fd.vis.stats_gallery(metric="blur"))
    print(fd.vis.similarity_gallery(num_images=5))


if __name__ == "__main__":
    main()
