"""Hugging Face folders: config.json, the weights beside it, and how pictures are prepared."""

from detrojan.models.formats.huggingface.format import HuggingFaceFolder

__all__ = ["HuggingFaceFolder"]
