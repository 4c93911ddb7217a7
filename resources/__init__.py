"""What the assets run with: data sets, storage, model, Great Expectations, progress."""
