"""The demo data set: photos in the public domain with planted defects, and the score of what was found of them."""

from fastdup_dagster.demo.make import PLANTED_FILE, make_demo
from fastdup_dagster.demo.plants import KINDS, PLANTED_SCHEMA, SPLITS
from fastdup_dagster.demo.score import DemoTables, SplitTables, format_score, score_demo

__all__ = [
    "KINDS",
    "PLANTED_FILE",
    "PLANTED_SCHEMA",
    "SPLITS",
    "DemoTables",
    "SplitTables",
    "format_score",
    "make_demo",
    "score_demo",
]
