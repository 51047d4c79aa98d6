"""Repairs: mend a model."""
