"""Metrics: what is measured, one way for everybody."""
