"""Which of the networks in one file is judged: the one that fits, or the one that the caller names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from detrojan.errors import ModelError, OptionError, WeightsError
from detrojan.models.formats.state_dict import unwrapped
from detrojan.models.matching import Order
from detrojan.models.weights import Architecture, Fitted, fit
from detrojan.parsing.torch_file import USUAL_KEYS

Tensors = dict[str, torch.Tensor]
#: more networks than this are not tried
_MOST = 8


def prefixes(tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the first parts of the keys where each of several holds a network: a convolution at least."""
    found: dict[str, set[int]] = {}
    for key, tensor in tensors.items():
        first, dot, _ = key.partition(".")
        found.setdefault(first if dot else "", set()).add(tensor.ndim)
    networks = [first for first, dims in found.items() if first and 4 in dims]
    classifiers = [first for first in networks if 2 in found[first]]
    return tuple(classifiers[:_MOST]) if len(networks) > 1 else ()


def under(tensors: Mapping[str, torch.Tensor], key: str, where: str, others: Sequence[str] = ()) -> Tensors:
    """Return the tensors whose keys begin with `key`, under their whole keys.

    Raises:
        OptionError: there are none; the message lists the networks of the file.

    """
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}
    if not found:
        own = dict.fromkeys(name.partition(".")[0] for name in tensors if "." in name)
        known = [other for other in others if other] or list(own)
        raise OptionError(f"{where}: expected a --key out of {', '.join(known[:_MOST])}, got {key!r:.80}")
    return found


def stripped(tensors: Mapping[str, torch.Tensor], key: str) -> Tensors:
    """Return the tensors without the first part of their keys."""
    return {name.removeprefix(f"{key}."): tensor for name, tensor in tensors.items()}


def first_that_fits(
    keys: Sequence[str], attempt: Callable[[str], tuple[Fitted, Tensors]], where: str
) -> tuple[str, Fitted, Tensors, str]:
    """Return the one network that fits, its tensors, and what a person has to know of the choice.

    Of several that fit, the one is taken whose key is the more usual one for weights.

    Args:
        keys: what leads to each network.
        attempt: fits one, or raises an error.
        where: the file, for error texts.

    Raises:
        ModelError: none fits, or several do that nothing tells apart.

    """
    fits: dict[str, tuple[Fitted, Tensors]] = {}
    problems: dict[str, str] = {}
    for key in keys[:_MOST]:
        try:
            fits[key] = attempt(key)
        except (ModelError, WeightsError) as error:
            problems[key] = str(error).removeprefix(f"{where}: ")
    if not fits:
        said = "; ".join(f"{key}: {problem:.200}" for key, problem in problems.items())
        raise ModelError(f"{where}: expected a network, got several of which none fits: {said} (--key NAME)")
    ranks = {key: _rank(key) for key in fits}
    best = min(fits, key=lambda key: ranks[key])
    if list(ranks.values()).count(ranks[best]) > 1:
        raise ModelError(
            f"{where}: expected one network, got several that fit: {', '.join(fits)}; name one with --key"
        )
    note = f"of its networks {', '.join(keys)}, {best} is judged (--key chooses another)"
    return best, *fits[best], note


def _rank(key: str) -> int:
    last = key.rpartition(".")[2]
    return USUAL_KEYS.index(last) if last in USUAL_KEYS else len(USUAL_KEYS)


def fit_part(
    tensors: Tensors, asked: Architecture, where: str, *, order: Order = "file", networks: Sequence[str] = ()
) -> tuple[Fitted, Tensors, Tensors]:
    """Fit a file's tensors; where they are several networks under prefixes, the one that fits.

    Args:
        tensors: under the file's keys.
        asked: the network as the caller names it, maybe with a key.
        where: the file, for error texts.
        order: as for `fit`.
        networks: what leads to the other networks in the file, for error texts.

    Returns:
        The fitted network, and its tensors under the keys they were fitted by and under the file's own.

    Raises:
        OptionError: no tensors under the key.
        ModelError: nothing fits.

    """

    def attempt(key: str) -> tuple[Fitted, Tensors]:
        own = under(tensors, key, where, networks)
        return fit(unwrapped(stripped(own, key)), asked, where, order=order), own

    if asked.key is not None:
        fitted, own = attempt(asked.key)
        return fitted, unwrapped(stripped(own, asked.key)), own
    several = prefixes(tensors)
    try:
        bare = unwrapped(tensors)
        return fit(bare, asked, where, order=order), bare, tensors
    except (ModelError, WeightsError):
        if not several:
            raise
    key, fitted, own, note = first_that_fits(several, attempt, where)
    return replace(fitted, notes=(*fitted.notes, note)), unwrapped(stripped(own, key)), own
