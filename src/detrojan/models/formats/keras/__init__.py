"""Keras files, read and written without Keras."""
