"""Reports: one schema, one file per output."""
