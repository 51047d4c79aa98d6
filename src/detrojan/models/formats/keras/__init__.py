"""Keras files, read and written without Keras."""

from detrojan.models.formats.keras.format import KerasFile

__all__ = ["KerasFile"]
