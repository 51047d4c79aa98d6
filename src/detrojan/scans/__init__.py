"""Scans: judge a model."""
