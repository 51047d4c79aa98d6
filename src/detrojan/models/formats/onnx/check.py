"""Compares what was built out of an ONNX file with what ONNX Runtime answers, where that is installed."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.errors import InputError, ModelError
from detrojan.extras import require
from detrojan.models.formats.onnx.network import OnnxGraph
from detrojan.quarantine import quarantined

log = logging.getLogger(__name__)

#: how far outputs may be from the runtime's, as a share of the largest one; above it the file is refused
NEARLY = 1e-3
#: the same where the file computes with shorter numbers than we do
NEARLY_HALF = 3e-2
#: images that are compared
IMAGES = 4
_SEED = 20


class _NotRunError(InputError):
    """ONNX Runtime does not run the file."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How images (N, C, H, W) become what a graph takes.

    Attributes:
        order: the axes of (N, C, H, W) in the order in which the graph takes them.
        drop: which of the reordered axes the graph does not have; they have the length 1.
        batch: how many images the graph takes at once, where it states that.

    """

    order: tuple[int, ...]
    drop: tuple[int, ...]
    batch: int | None


def made_up_images(shape: tuple[int, int, int], *, whole: bool) -> torch.Tensor:
    """Return made-up images (4, C, H, W): noise in [0, 1], in [-1, 1] and in [0, 255], and a grey one."""
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.rand(IMAGES, *shape, generator=generator)
    images[1] = images[1] * 2 - 1
    images[2] *= 255
    images[3] = images[3, 0, 0, 0]
    return images.abs().mul(255).clamp(max=255).floor() if whole else images


def runtime_outputs(path: Path, images: Any, entry: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Return what ONNX Runtime answers to images.

    Args:
        path: the file.
        images: (N, C, H, W), an array.
        entry: the fields of `Entry`.

    """
    runtime = require("onnxruntime", extra="onnx", what="comparing ONNX files")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    kind = kinds.get(given.type) or np.dtype(given.type.removeprefix("tensor(").removesuffix(")"))
    turned = images.transpose(entry["order"])
    turned = turned.reshape([size for axis, size in enumerate(turned.shape) if axis not in entry["drop"]])
    batch, parts = entry["batch"] or len(turned), []
    for start in range(0, len(turned), batch):
        part = turned[start : start + batch]
        held = len(part)
        part = np.concatenate([part, np.repeat(part[-1:], batch - held, 0)]).astype(kind)
        parts.append([np.asarray(answer)[:held] for answer in session.run(None, {given.name: part})])
    return [np.concatenate(answers) for answers in zip(*parts, strict=True)]


def compare(
    network: OnnxGraph,
    path: Path,
    shape: tuple[int, int, int],
    entry: Entry,
    *,
    whole: bool,
    half: bool,
    beside: tuple[Path, ...] = (),
) -> float | None:
    """Return how far a network's outputs are from ONNX Runtime's, as a share of the largest output.

    Args:
        network: with all outputs of the file, nothing cut off.
        path: the file.
        shape: (C, H, W).
        entry: how images become what the graph takes.
        whole: whether the graph takes whole numbers.
        half: whether the file computes with shorter numbers than float32.
        beside: other files that hold weights of it.

    Returns:
        The difference; None where ONNX Runtime is not installed or does not run the file.

    Raises:
        ModelError: the outputs differ.

    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    images = made_up_images(shape, whole=whole)
    fields = {"order": entry.order, "drop": entry.drop, "batch": entry.batch}
    try:
        wanted = quarantined(
            runtime_outputs, path, images.numpy(), fields, failure=_NotRunError, beside=beside
        )
    except _NotRunError as error:
        log.warning("%s: not compared with ONNX Runtime, which does not run it: %s", path, error)
        return None
    with torch.no_grad():
        got = network.outputs(images)
    difference = max(_difference(one, two) for one, two in zip(got, wanted, strict=True))
    if not difference <= (NEARLY_HALF if half else NEARLY):
        raise ModelError(
            f"{path}: expected the outputs that ONNX Runtime computes, got others: they differ by "
            f"{difference:.2g} of the largest one on made-up images"
        )
    return difference


def _difference(got: torch.Tensor, wanted: np.ndarray[Any, Any]) -> float:
    if tuple(got.shape) != wanted.shape:
        raise ModelError(f"expected an output {wanted.shape} as ONNX Runtime has it, got {tuple(got.shape)}")
    ours, theirs = got.double().numpy(), wanted.astype(np.float64)
    if wanted.dtype.kind != "f":  # labels, where two may be equally likely
        return 0.0 if np.mean(ours == theirs) > 0.5 else 1.0
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return 0.0 if np.array_equal(np.isfinite(ours), np.isfinite(theirs)) else 1.0
    largest = float(np.abs(theirs).max(initial=0))
    return (
        float(np.abs(ours - theirs).max(initial=0)) / largest
        if largest
        else float(np.abs(ours).max(initial=0))
    )
