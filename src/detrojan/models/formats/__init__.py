"""Model formats: one file each."""
