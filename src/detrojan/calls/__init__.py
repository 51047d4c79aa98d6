"""The toolkit from Python: one call a task, on whatever model and images are at hand."""
