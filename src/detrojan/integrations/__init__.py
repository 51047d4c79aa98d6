"""Scans at the end of training, and in runs of MLflow: one file for each framework, imported by its users."""
