"""One pure module per asset: tables and settings in, a table out. No Dagster here."""
