"""The asset graph: one thin module per asset, named after it. A body loads, calls its stage, checks and yields."""
