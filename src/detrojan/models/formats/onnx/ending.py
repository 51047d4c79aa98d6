"""Takes the softmax, sigmoid or choice of a label off the end of a graph, so that logits remain."""

from __future__ import annotations

import torch
from torch import nn

from detrojan.models.formats.onnx.modules import Apply, FlatSoftmax, Shaped
from detrojan.models.formats.onnx.network import OnnxGraph, Step

_PASSING = (nn.Flatten, nn.Identity, Shaped)


def cut_endings(network: OnnxGraph) -> tuple[str, ...]:
    """Make a graph answer logits, in place, and return what was left out, for people.

    Outputs that are made of the same logits, such as probabilities and the likeliest label, become one.
    """
    cut: dict[int, str] = {}
    left_out: list[str] = []
    for number, name in zip(network.answers, network.names, strict=True):
        before, kinds = _before(network, number)
        cut.setdefault(before, name)
        left_out += [kind for kind in kinds if kind not in left_out]
    network.end_in(tuple(cut), tuple(cut.values()))
    return tuple(left_out)


def _before(network: OnnxGraph, number: int) -> tuple[int, list[str]]:
    """Return the logits that a value is made of, and what makes it of them."""
    answer, kinds, place = number, [], number
    while (step := network.maker(place)) is not None and isinstance(step.takes[0], int):
        kind = _squash(network, step)
        place = step.takes[0]
        if kind:
            answer = place
            kinds.append(kind)
        elif not _passes(network, step):
            break
    return answer, kinds


def _squash(network: OnnxGraph, step: Step) -> str:
    module = network.get_submodule(step.module)
    if isinstance(module, nn.Softmax | FlatSoftmax | nn.LogSoftmax):
        log = isinstance(module, nn.LogSoftmax) or (isinstance(module, FlatSoftmax) and module.log)
        return "log-softmax" if log else "softmax"
    if isinstance(module, nn.Sigmoid):
        return "sigmoid"
    chooses = isinstance(module, Apply) and module.function is torch.argmax
    return "choice of the likeliest label" if chooses else ""


def _passes(network: OnnxGraph, step: Step) -> bool:
    module = network.get_submodule(step.module)
    return isinstance(module, _PASSING) or (isinstance(module, Apply) and module.function is torch.Tensor.to)
