"""Pairs the tensors of a network with those of a file, by name or in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

Shape = tuple[int, ...]
Order = Literal["file", "kind", "none"]
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
    wanted: Mapping[str, Shape], found: Mapping[str, Shape], *, order: Order = "file", whole: bool = True
) -> tuple[dict[str, str], bool, list[str]]:
    """Pair a network's tensors with a file's: by name where the names agree, else in order.

    Names agree also behind a prefix that all of the network's, or all of the file's, have.

    Args:
        wanted: the network's names and shapes.
        found: the file's names and shapes.
        order: which order of the file counts: "file", its own; "kind", its own among convolutions, among
            linear layers and among norms; "none" where it says nothing. Then layers are paired by their
            shapes, and several of equal shapes only where numbers in their names tell their order.
        whole: whether all of the file's tensors have to belong to the network, also those behind other
            prefixes.

    Returns:
        The file's key per name of the network, whether names agreed, and what does not fit.

    """
    wanted, values = countless(wanted), countless(found)
    named, doubt = _by_name(wanted, values, whole=whole)
    if named:
        wrong = [_differs(n, wanted[n], k, values[k]) for n, k in named.items() if values[k] != wanted[n]]
        return _with_counters(named, found), True, wrong
    wrong = doubt or _name_problems(wanted, values)
    if order == "none" and not wrong and (layered := _by_layer(wanted, values)) is not None:
        pairs, wrong = layered
        return _with_counters(pairs, found), False, wrong
    ours, theirs = (_by_kind(shapes) if order == "kind" else list(shapes) for shapes in (wanted, values))
    if not wrong:
        paired = list(zip(ours, theirs, strict=False))
        wrong = [_differs(n, wanted[n], k, values[k]) for n, k in paired if wanted[n] != values[k]]
        wrong += [f"expected {name} {wanted[name]}, got nothing" for name in ours[len(theirs) :]]
        wrong += [f"expected nothing more, got {name} {values[name]}" for name in theirs[len(ours) :]]
    if order == "none" and not wrong:
        wrong = _twins({key: values[key] for key in theirs})
    return _with_counters(dict(zip(ours, theirs, strict=False)), found), False, wrong


def _by_name(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape], *, whole: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the file's key per name where names agree, possibly behind a prefix; or why they cannot."""
    if wanted.keys() == found.keys():
        return {name: name for name in wanted}, []
    if not wanted:
        return {}, []
    first = next(iter(wanted))
    prefixes = [key.removesuffix(first) for key in found if key.endswith(f".{first}")]
    behind = []
    for prefix in prefixes:
        own = {key for key in found if key.startswith(prefix)}
        if {f"{prefix}{name}" for name in wanted} == own and (not whole or len(own) == len(found)):
            behind.append(prefix)
    fits = [p for p in behind if all(found[f"{p}{name}"] == shape for name, shape in wanted.items())]
    if len(fits) > 1:
        some = " and ".join(f"{prefix}{first}" for prefix in fits[:3])
        return {}, [f"ambiguous match: {len(fits)} networks in the file fit, which begin with {some}"]
    if behind:
        prefix = (fits or behind)[0]
        return {name: f"{prefix}{name}" for name in wanted}, []
    common = first[: first.find(".") + 1]
    if common and all(name.startswith(common) for name in wanted):
        short, _ = _by_name({name.removeprefix(common): s for name, s in wanted.items()}, found, whole=whole)
        return {f"{common}{name}": key for name, key in short.items()}, []
    return {}, []


def _layers(shapes: Mapping[str, Shape]) -> dict[tuple[tuple[str, Shape], ...], list[str]]:
    """Return the layers that have tensors of the same names and shapes, in order."""
    layers: dict[str, list[tuple[str, Shape]]] = {}
    for name, shape in shapes.items():
        owner, _, leaf = name.rpartition(".")
        layers.setdefault(owner, []).append((leaf, shape))
    alike: dict[tuple[tuple[str, Shape], ...], list[str]] = {}
    for owner, tensors in layers.items():
        alike.setdefault(tuple(sorted(tensors)), []).append(owner)
    return alike


def _by_layer(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape]
) -> tuple[dict[str, str], list[str]] | None:
    """Pair layers by their shapes; None where the layers of the two are not the same."""
    ours, theirs = _layers(wanted), _layers(found)
    if {kind: len(owners) for kind, owners in ours.items()} != {
        kind: len(owners) for kind, owners in theirs.items()
    }:
        return None
    keys: dict[str, str] = {}
    wrong: list[str] = []
    for kind, owners in ours.items():
        if not _numbered(theirs[kind]):
            wrong.append(_ambiguous(theirs[kind], kind[0][1]))
        for owner, other in zip(owners, theirs[kind], strict=True):
            for leaf, _ in kind:
                keys[f"{owner}.{leaf}" if owner else leaf] = f"{other}.{leaf}" if other else leaf
    return {name: keys[name] for name in wanted}, wrong


def _numbered(names: Sequence[str]) -> bool:
    """Tell whether names differ in their numbers alone, so that these tell their order."""
    return len({re.sub(r"\d+", "#", name) for name in names}) == 1


def _twins(found: Mapping[str, Shape]) -> list[str]:
    """Return which tensors of equal shape could be taken for one another, where no order is known."""
    alike: dict[Shape, list[str]] = {}
    for name, shape in found.items():
        alike.setdefault(shape, []).append(name)
    return [_ambiguous(names, shape) for shape, names in alike.items() if not _numbered(names)]


def _ambiguous(names: Sequence[str], shape: Shape) -> str:
    return (
        f"ambiguous match: {', '.join(names[:3])} have the same shape {shape}, the file does not say their "
        "order, and their names are not the network's"
    )


def match_by_name(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape]
) -> tuple[dict[str, str], list[str]]:
    """Pair a network's tensors with a file's by name alone, behind whatever prefix the file has.

    What the file has besides, under other prefixes, belongs to something else and is left alone.

    Args:
        wanted: the network's names and shapes.
        found: the file's names and shapes.

    Returns:
        The file's key per name of the network, and what does not fit.

    """
    wanted, values = countless(wanted), countless(found)
    prefix, others = _prefix(wanted, values)
    if others:
        some = " and ".join(repr(one) for one in (prefix, *others)[:3])
        return {}, [f"ambiguous match: the network's names are found behind {some}"]
    ours = {key.removeprefix(prefix): key for key in values if key.startswith(prefix)}
    got = {name: values[key] for name, key in ours.items()}
    wrong = [_differs(n, s, ours[n], got[n]) for n, s in wanted.items() if n in ours and got[n] != s]
    wrong += [f"expected {name} {shape}, got nothing" for name, shape in wanted.items() if name not in ours]
    wrong += [f"expected no {ours[n]}, got {got[n]}" for n in ours if n not in wanted]
    keys = {name: ours[name] for name in wanted if name in ours}
    return _with_counters(keys, found), wrong


def _prefix(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> tuple[str, list[str]]:
    """Return the prefix behind which most of the wanted names are found, and others that do as well."""
    counts: dict[str, int] = {"": sum(name in found for name in wanted)}
    for name in (*list(wanted)[:1], *list(wanted)[-1:]):
        for key in found:
            if key.endswith(f".{name}"):
                prefix = key.removesuffix(name)
                counts[prefix] = sum(f"{prefix}{other}" in found for other in wanted)
    best, *others = (prefix for prefix, count in counts.items() if count == max(counts.values()))
    return best, others


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
