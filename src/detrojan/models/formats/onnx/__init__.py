"""ONNX files: a network of PyTorch out of their graph, and the graph back with other weights."""

from detrojan.models.formats.onnx.format import OnnxFile

__all__ = ["OnnxFile"]
