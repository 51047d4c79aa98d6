"""Pairs the tensors of a network with those of a file, by name or in order."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

Shape = tuple[int, ...]
#: the batch counter of PyTorch's batch norm
COUNTER = "num_batches_tracked"
_KINDS = {4: 0, 2: 1, 1: 2}


def shapes_of(network: nn.Module) -> dict[str, Shape]:
    """Return the shapes of a network's tensors by name, without batch counters."""
    return countless({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


def countless(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Leave out the batch counters of batch norm, which third-party files often lack."""
    return {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}


def match(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape], *, by_kind: bool = False
) -> tuple[dict[str, str], bool, list[str]]:
    """Pair a network's tensors with a file's: by name where the names agree, else in order.

    Args:
        wanted: the network's names and shapes.
        found: the file's names and shapes.
        by_kind: compare the order only among convolutions, among linear layers and among norms.

    Returns:
        The file's key per name of the network, whether names agreed, and what does not fit.

    """
    wanted, values = countless(wanted), countless(found)
    if wanted.keys() == values.keys():
        wrong = [_differs(n, s, n, values[n]) for n, s in wanted.items() if values[n] != s]
        return _with_counters({name: name for name in wanted}, found), True, wrong
    ours, theirs = (_by_kind(shapes) if by_kind else list(shapes) for shapes in (wanted, values))
    wrong = _name_problems(wanted, values)
    if not wrong:
        pairs = list(zip(ours, theirs, strict=False))
        wrong = [_differs(n, wanted[n], k, values[k]) for n, k in pairs if wanted[n] != values[k]]
        wrong += [f"expected {name} {wanted[name]}, got nothing" for name in ours[len(theirs) :]]
        wrong += [f"expected nothing more, got {name} {values[name]}" for name in theirs[len(ours) :]]
    return _with_counters(dict(zip(ours, theirs, strict=False)), found), False, wrong


def _differs(name: str, shape: Shape, key: str, got: Shape) -> str:
    return f"expected {name} {shape}, got {key} {got}"


def _name_problems(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """Return what is missing or left over where most names agree, so that order is no guide."""
    common = wanted.keys() & found.keys()
    if 2 * len(common) <= len(wanted):
        return []
    wrong = [_differs(n, wanted[n], n, found[n]) for n in wanted if n in common and found[n] != wanted[n]]
    wrong += [f"expected {name} {shape}, got nothing" for name, shape in wanted.items() if name not in common]
    wrong += [f"expected no {name}, got {shape}" for name, shape in found.items() if name not in common]
    return wrong


def _by_kind(shapes: Mapping[str, Shape]) -> list[str]:
    """Sort the tensors by the kind of their layer, keeping the order among each kind."""
    kinds: dict[str, int] = {}
    for name, shape in shapes.items():
        kinds.setdefault(name.rpartition(".")[0], _KINDS.get(len(shape), 3))
    return sorted(shapes, key=lambda name: kinds[name.rpartition(".")[0]])


def _with_counters(keys: dict[str, str], found: Mapping[str, Shape]) -> dict[str, str]:
    more = {}
    for name, key in keys.items():
        if name.endswith("running_var"):
            counter = key.removesuffix("running_var") + COUNTER
            if counter in found:
                more[name.removesuffix("running_var") + COUNTER] = counter
    return {**keys, **more}
