"""The tensors in what a network answers, and which of them answers the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from detrojan.errors import ModelError, OptionError

#: how networks call their logits, the surest name first
NAMES = ("logits", "out", "output", "outputs", "prediction", "predictions", "scores")
_DEPTH = 4


def heads(answer: Any, name: str = "", depth: int = 0) -> dict[str, torch.Tensor]:
    """Return the tensors of an answer, by name: keys, attributes and places in a tuple, joined by dots."""
    if isinstance(answer, torch.Tensor | fx.Proxy):
        return {name: answer}  # type: ignore[dict-item]
    if isinstance(answer, Mapping):
        items = [(str(key), value) for key, value in answer.items()]
    elif isinstance(answer, tuple | list):
        names = getattr(answer, "_fields", None) or map(str, range(len(answer)))
        items = list(zip(names, answer, strict=True))
    else:
        items = list(getattr(answer, "__dict__", {}).items())
    if depth == _DEPTH:
        return {}
    found: dict[str, torch.Tensor] = {}
    for key, value in items:
        found.update(heads(value, f"{name}.{key}" if name else key, depth + 1))
    return found


def flat(numbers: torch.Tensor, dims: int) -> torch.Tensor:
    """Return (N, K) for (N, K), (N, K, 1, 1) or (N,), which have `dims` dimensions."""
    if dims == 1:
        return numbers[:, None]
    return numbers.flatten(1) if dims > 2 else numbers


def can_be_logits(numbers: torch.Tensor, count: int) -> bool:
    """Tell whether a tensor of the answer to `count` images can hold logits (N, K), (N, K, 1, 1) or (N,)."""
    shape = tuple(numbers.shape)
    return (
        numbers.is_floating_point()
        and len(shape) >= 1
        and shape[0] == count
        and math.prod(shape) > 0
        and all(side == 1 for side in shape[2:])
    )


def _other_task(found: Mapping[str, torch.Tensor]) -> str:
    """Return what a network does that answers maps or rows, in words; empty where that cannot be told."""
    dims = {tensor.ndim for tensor in found.values()}
    if 4 in dims:
        return "; maps are what networks for segmentation and detection answer, which are not judged"
    if dims == {3}:
        return "; rows are what detectors and readers of text answer, which are not judged"
    return ""


def _shown(found: Mapping[str, torch.Tensor]) -> str:
    """Return the heads with their shapes, for people."""

    def one(name: str, tensor: torch.Tensor) -> str:
        return f"{name} ({', '.join(['N', *map(str, tensor.shape[1:])])})"

    return ", ".join(one(name, tensor) for name, tensor in list(found.items())[:12])


def chosen(answer: Any, output: str | None, count: int) -> tuple[str, str]:
    """Return the name of the head that answers the classes, and what a person has to know of the choice."""
    found = heads(answer)
    if output is not None:
        return _asked(found, output), ""
    fits = [name for name, tensor in found.items() if can_be_logits(tensor, count)]
    if len(found) == 1 and fits:
        return fits[0], ""
    if not fits:
        got = f"the outputs {_shown(found)}" if len(found) > 1 else kind(answer)
        raise ModelError(f"expected logits (N, classes) from the network, got {got}{_other_task(found)}")
    usual = min((_usual(name) for name in fits), default=len(NAMES))
    named = [name for name in fits if usual < len(NAMES) and _usual(name) == usual]
    wide = [name for name in fits if found[name].ndim == 2] or fits
    if isinstance(answer, tuple | list) and not named:
        more = "" if len(wide) == 1 else " (--output chooses another)"
        return wide[0], f"of its outputs {_shown(found)}, the first is judged: {wide[0]}{more}"
    best = named or wide
    depth = min(name.count(".") for name in best)
    best = [name for name in best if name.count(".") == depth]
    if len(best) > 1:
        raise OptionError(
            f"expected one output that answers the classes, got {_shown(found)}: name one with --output"
        )
    return best[0], f"of its outputs {_shown(found)}, one is judged: {best[0]}"


def kind(answer: Any) -> str:
    """Return what an answer is, for errors: its shape, or its class."""
    return str(tuple(answer.shape)) if isinstance(answer, torch.Tensor) else type(answer).__name__


def _usual(name: str) -> int:
    """Return how sure it is by its name that a head answers the classes; the fewer the surer."""
    last = name.rpartition(".")[2].lower()
    return NAMES.index(last) if last in NAMES else len(NAMES)


def _asked(found: Mapping[str, torch.Tensor], output: str) -> str:
    if output in found:
        return output
    place = int(output) if output.isdecimal() and len(output) < 6 else len(found)
    if place < len(found):
        return list(found)[place]
    some = _shown(found) if list(found) != [""] else "one tensor without a name"
    raise OptionError(f"expected an output out of {some}, got {output!r}")
