"""Every check by name: what each table must hold, and what its data should be like.

The graph, the documentation and the command line are built from these names without importing Great Expectations
(seconds, and hundreds of MB). The suites that decide are in `expectations` (structure) and `quality` (data quality);
`array_checks` looks at what must not go to pandas.
"""

STRUCTURE: dict[str, dict[str, str]] = {
    "image_manifest": {
        "has_rows": "at least one image was found",
        "unique_ids": "index, instance_id and, without boxes, filename each name one row",
        "known_error_codes": "every error code is one that the documentation explains",
    },
    "detections": {
        "one_row_per_image": "every image of the listing has its row, and there are no others",
        "lists_of_equal_length": "each box has a label and a confidence",
        "boxes_in_image": "boxes are of positive size and within their image",
        "labels_and_confidences": "labels are not empty, and confidences from 0 to 1",
    },
    "embeddings": {
        "one_row_per_image": "every row of the manifest has its row, and there are no others",
        "finite_vectors": "each valid image has a finite, non-zero vector of the model's width, an invalid one none",
    },
    "img_stats": {
        "one_row_per_image": "every row of the manifest has its row, and there are no others",
        "values_in_range": "sizes and statistics are within what they can be",
        "values_present": "each valid image has its hashes, its size and the statistics that were asked for",
    },
    "knn_graph": {
        "edge_count": "n * min(k, n - 1) edges, as many for each image, no edge twice",
        "no_self_edges": "no image is its own neighbour",
        "known_images": "edges join valid images of the split",
        "similarity_range": "similarities are within what the metric gives",
    },
    "similarity": {
        "over_threshold": "similarities are over the threshold",
        "sorted": "most alike first",
        "known_pairs": "a pair joins two different valid images of the split, and its kind is a known one",
    },
    "outliers": {
        "least_alike_first": "similarities rise and ranks count from 1",
        "one_row_per_outlier": "an image is named once, and not more rows than outlier_percentile allows",
        "known_images": "outliers and their nearest are valid images of the split",
    },
    "components": {
        "sizes_add_up": "count is the number of the component's rows, at least 2",
        "one_component_per_image": "an image is in one component at most",
        "known_images": "members are valid images of the split",
        "similarity_range": "lowest, mean and highest similarity are within what the metric gives",
    },
    "captions": {
        "one_row_per_image": "every row of the manifest has its row, and there are no others",
        "caption_or_error": "each row has a caption that says something, or the reason why it has none",
    },
    "galleries": {
        "pages_exist": "every page is there and is not empty",
        "numbers_agree": "the totals on the pages are those of the tables, and none shows more than there are",
    },
    "split_leakage": {
        "pairs_cross_splits": "a pair joins two different published splits, and its images are in them",
        "similarity_range": "most alike first, within what the metric gives",
    },
}
"""What a table must hold to be one that others can read. One that fails always keeps the table from being published."""

QUALITY: dict[str, dict[str, str]] = {
    "image_manifest": {
        "label_balance": "the largest class is not over limits.max_label_imbalance times the smallest",
    },
    "detections": {
        "share_of_failed": "the share of images that no detector could look at is within limits.max_invalid_share",
    },
    "embeddings": {
        "share_of_unreadable": "the share of images without a usable vector is within limits.max_invalid_share",
        "embedding_drift": "the mean vector is within limits.max_embedding_drift of the published one",
    },
    "img_stats": {
        "share_of_unreadable": "the share of broken images is within limits.max_invalid_share",
        "exact_duplicates": "the share of copies, byte for byte, is within limits.max_exact_duplicate_share",
        "truncated": "the share of files that end early is within limits.max_truncated_share",
        "blurry": "the share of blurry images is within limits.max_blurry_share",
        "dark": "the share of dark images is within limits.max_dark_share",
        "bright": "the share of bright images is within limits.max_bright_share",
        "statistics_drift": "each statistic is within limits.max_statistics_drift of the published ones",
    },
    "similarity": {
        "near_duplicates": "the share of near duplicates and copies is within limits.max_near_duplicate_share",
    },
    "captions": {
        "share_of_failed": "the share of images without a caption is within limits.max_invalid_share",
    },
    "split_leakage": {
        "share_of_leaked": "the share of a split's images that leaked is within limits.max_leak_share",
    },
}
"""What the data of a table should be like. `limits.severity` says of each limit whether it warns or blocks."""

CHECKS: dict[str, dict[str, str]] = {table: QUALITY.get(table, {}) | checks for table, checks in STRUCTURE.items()}
"""All checks of each table."""
