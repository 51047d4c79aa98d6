"""Parses ONNX files into a plain tree, without running or opening anything that they name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.external import fill, is_external
from detrojan.models.formats.onnx.proto import load_proto, onnx_library

_MOST_NODES, _MOST_AXES = 50_000, 16
#: numbers of the types of elements: float, float16, double, bfloat16; whole numbers and truth values
_REAL, _SHORT, _WHOLE = {1, 10, 11, 16}, {10, 16}, {2, 3, 4, 5, 6, 7, 9, 12, 13}
_STANDARD = {"", "ai.onnx"}


def parse_onnx(path: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return a model's graph as a plain tree.

    Args:
        path: the file.
        files: what lies beside it with weights of it, by the name it calls each; no other is opened.

    Returns:
        "opset", "nodes" (dicts of "op", "name", "inputs", "outputs" and "attributes"), "tensors" (arrays by
        name), "halves" (names of those shorter than float32), "inputs" (dicts of "name", "shape" and
        "whole_numbers"), "outputs" (names) and "metadata" (texts by name).

    Raises:
        ModelError: damaged, quantised, or with operators of its own.
        UnsafeFileError: weights in a file that is none of these.

    """
    model = load_proto(path)
    if model.functions:
        raise ModelError(
            f"{path}: expected standard operators alone, got functions of the file's own: "
            f"{', '.join(one.name for one in list(model.functions)[:3])}; export it with them inlined"
        )
    graph = model.graph
    if not graph.node or len(graph.node) > _MOST_NODES:
        raise ModelError(f"{path}: expected 1 to {_MOST_NODES} nodes, got {len(graph.node)}")
    if graph.sparse_initializer:
        raise ModelError(f"{path}: expected dense weights, got sparse ones")
    tensors, halves = {}, []
    for one in graph.initializer:
        tensors[one.name] = _array(one, f"{path}: {one.name!r}", files)
        halves += [one.name] if one.data_type in _SHORT else []
    nodes = [_node(one, path, files) for one in graph.node]
    return {
        "opset": _opset(model, path),
        "nodes": nodes,
        "tensors": tensors,
        "halves": halves,
        "inputs": [_input(one, path) for one in graph.input if one.name not in tensors],
        "outputs": [one.name for one in graph.output],
        "metadata": {one.key: one.value for one in model.metadata_props},
    }


def _opset(model: Any, path: Path) -> int:
    found = {one.domain: int(one.version) for one in model.opset_import}
    version = next((found[domain] for domain in _STANDARD if domain in found), 1)
    if not 1 <= version <= 1000:
        raise ModelError(f"{path}: expected a version of the operators, got {version}")
    return version


def _node(node: Any, path: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    name = node.name or next(iter(node.output), "")
    where = f"{path}: node {name!r} ({node.op_type})"
    if node.domain not in _STANDARD:
        raise ModelError(
            f"{where}: expected an operator of the standard, got one of {node.domain!r}, "
            f"whose code is not in the file; export the network without optimising it for one runtime"
        )
    return {
        "op": node.op_type,
        "name": name,
        "inputs": list(node.input),
        "outputs": list(node.output),
        "attributes": {one.name: _attribute(one, where, files) for one in node.attribute},
    }


def _attribute(one: Any, where: str, files: Mapping[str, Path]) -> Any:
    kind = one.type
    if kind in {1, 2}:
        return one.f if kind == 1 else int(one.i)
    if kind == 3:
        return one.s.decode("utf-8", "replace")
    if kind == 4:
        return _array(one.t, f"{where}: {one.name}", files)
    if kind in {6, 7}:
        return list(one.floats) if kind == 6 else [int(number) for number in one.ints]
    if kind == 8:
        return [text.decode("utf-8", "replace") for text in one.strings]
    what = "a graph of its own" if kind in {5, 10} else f"one of type {kind}"
    raise ModelError(
        f"{where}: expected {one.name} to be numbers or text, got {what}; "
        f"export the network without conditions and loops"
    )


def _array(tensor: Any, where: str, files: Mapping[str, Path]) -> np.ndarray[Any, Any]:
    kind, dims = tensor.data_type, list(tensor.dims)
    if kind not in _REAL | _WHOLE:
        raise ModelError(f"{where}: expected real or whole numbers, got elements of ONNX's type {kind}")
    if len(dims) > _MOST_AXES or any(size < 0 for size in dims):
        raise ModelError(f"{where}: expected up to {_MOST_AXES} sizes of 0 or more, got {dims[:20]}")
    apart = is_external(tensor)
    if apart:
        fill(tensor, files, where)
    count = math.prod(dims)
    held = max(len(tensor.raw_data), *(len(getattr(tensor, name)) for name in _FIELDS))
    if count > held:
        raise ModelError(f"{where}: expected {count} numbers for the shape {dims}, got fewer")
    try:
        array = onnx_library().numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{where}: {error}") from error
    finally:
        if apart:  # its bytes are not needed twice
            tensor.ClearField("raw_data")
    return np.array(array, dtype=np.float32) if kind in _REAL else np.array(array)


_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _input(one: Any, path: Path) -> dict[str, Any]:
    held = one.type.tensor_type
    if one.type.WhichOneof("value") != "tensor_type" or held.elem_type not in _REAL | _WHOLE:
        raise ModelError(f"{path}: expected the input {one.name!r} to be an array of numbers")
    shape = None
    if held.HasField("shape"):
        shape = [int(d.dim_value) if d.dim_value > 0 else None for d in held.shape.dim]
    return {"name": one.name, "shape": shape, "whole_numbers": held.elem_type not in _REAL}
