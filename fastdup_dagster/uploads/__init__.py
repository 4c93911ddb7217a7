"""Uploads into the folders and prefixes of data sets: which are finished, and new since they were launched last."""
