"""What the command line does, one module per concern; `fastdup_dagster.cli` holds its commands and options."""
