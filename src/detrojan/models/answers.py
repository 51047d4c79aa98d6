"""Takes logits (N, K) out of what a network answers: a tuple, a dict, probabilities, one number per image.

A network that answers logits is left alone. Any other is asked through `Answering`, which has the same
weights under the same names, so that it is written, repaired and compared as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from detrojan.errors import ModelError
from detrojan.models.heads import can_be_logits, chosen, flat, heads, kind

Scale = Literal["logits", "softmax", "sigmoid"]
#: made-up images on which probabilities are told from logits
PROBES = 8
#: how far probabilities may be from a sum of 1
NEARLY = 1e-3
#: the least probability that has a logarithm, and how far below 1 the greatest one but 1 is
_TINY, _NEXT_TO_1 = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).eps / 2
_ENDINGS = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)
_SQUASHING: frozenset[Any] = frozenset(
    getattr(owner, name)
    for owner in (torch, functional, torch.Tensor, torch.special)
    for name in ("softmax", "log_softmax", "sigmoid", "expit")
    if hasattr(owner, name)
)
#: what a module shares with the one that reads its answers: its weights and all below it
_SHARED = (
    *("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How logits are made of a network's answer.

    Attributes:
        head: which tensor of the answer, by its name; empty where the answer is one tensor.
        dims: how many dimensions that tensor has.
        cut: whether the softmax or sigmoid at the end is left out, so that its input is taken.
        scale: what the numbers are.
        single: whether one number per image stands for two classes, of which class 1 is the one it favours.

    """

    head: str = ""
    dims: int = 2
    cut: bool = False
    scale: Scale = "logits"
    single: bool = False

    def logits(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) for the chosen numbers (N, K), or (N, 1) where they are `single`."""
        if self.scale == "softmax":
            return numbers.float().clamp_min(_TINY).log()
        if self.scale == "sigmoid":
            numbers = numbers.float()
            numbers = numbers.clamp_min(_TINY).log() - (1 - numbers).clamp_min(_NEXT_TO_1).log()
        return torch.cat([torch.zeros_like(numbers), numbers], 1) if self.single else numbers


class Answering(nn.Module):
    """A network, asked so that it answers logits (N, K).

    It has the network's own weights, buffers and layers, under their own names.

    Args:
        inner: the network.
        reading: how its answer is read.

    """

    def __init__(self, inner: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        # not registered: the layers below it are reached as if they were this module's own
        self.__dict__["inner"] = inner
        for name in _SHARED:
            self.__dict__[name] = inner.__dict__[name]

    @property
    def training(self) -> bool:
        """The mode of the network itself."""
        inner = self.__dict__.get("inner")
        return True if inner is None else bool(inner.training)

    @training.setter
    def training(self, mode: bool) -> None:
        inner = self.__dict__.get("inner")
        if inner is not None:
            inner.training = mode

    def numbers(self, seen: torch.Tensor) -> torch.Tensor:
        """Return what the network computes for preprocessed images and the logits are made of (N, K or 1)."""
        inner: nn.Module = self.__dict__["inner"]
        traced = isinstance(seen, fx.Proxy)  # a graph knows the layers of this module, not the network itself
        ask = inner.forward if traced else inner
        if not self.reading.cut:
            return flat(heads(ask(seen))[self.reading.head], self.reading.dims)
        with _Endings() as endings:
            answer = heads(ask(seen))[self.reading.head]
        before = endings.before(answer)
        if before is None:
            raise ModelError("expected the network to end in a softmax or a sigmoid, as it did before")
        return flat(before, self.reading.dims)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) for preprocessed images."""
        return self.reading.logits(self.numbers(seen))


class _Endings(TorchFunctionMode):
    """Watches this thread's softmaxes and sigmoids while the body runs, and knows what they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, Any]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _SQUASHING:
            given = args[0] if args else (kwargs or {}).get("input")
            self.seen.append((given, out))
        return out

    def before(self, answer: torch.Tensor) -> torch.Tensor | None:
        """Return what the last of them was given, in the answer's shape; None where none made the answer."""
        if isinstance(answer, fx.Proxy):
            return _before(answer)
        for given, out in reversed(self.seen):
            if out is answer or (
                out.numel() == answer.numel()
                and out.data_ptr() == answer.data_ptr()
                and out.is_contiguous()
                and answer.is_contiguous()
            ):
                before: torch.Tensor = given.reshape(answer.shape)
                return before
        return None


def _before(answer: fx.Proxy) -> Any:
    """Return what a graph gives to the softmax or sigmoid at its end; None where there is none."""
    node, tracer = answer.node, answer.tracer
    squashes = node.target in _SQUASHING
    if node.op == "call_method":
        squashes = getattr(torch.Tensor, str(node.target), None) in _SQUASHING
    elif node.op == "call_module" and isinstance(tracer, fx.Tracer):
        squashes = isinstance(tracer.root.get_submodule(str(node.target)), _ENDINGS)
    return fx.Proxy(node.args[0], tracer) if squashes and isinstance(node.args[0], fx.Node) else None


def inner_of(network: nn.Module) -> nn.Module:
    """Return the network itself, where another module reads its answers."""
    return network.__dict__["inner"] if isinstance(network, Answering) else network


def output_of(network: nn.Module) -> str:
    """Return the name of the output that is judged; empty where the network has one."""
    return network.reading.head if isinstance(network, Answering) else ""


def _are_shares(numbers: torch.Tensor) -> bool:
    return bool(((numbers >= -NEARLY) & (numbers <= 1 + NEARLY)).all())


def _sum_to_one(numbers: torch.Tensor) -> bool:
    """Tell whether these are the probabilities of several classes."""
    return numbers.shape[1] > 1 and _are_shares(numbers) and _close(numbers.sum(1), 1)


def _are_log_probabilities(numbers: torch.Tensor) -> bool:
    return bool((numbers <= NEARLY).all()) and numbers.shape[1] > 1 and _close(numbers.logsumexp(1), 0)


def _close(totals: torch.Tensor, wanted: float) -> bool:
    return bool(((totals - wanted).abs() <= NEARLY).all())


def probes(shape: tuple[int, int, int]) -> torch.Tensor:
    """Return made-up images (8, C, H, W) in [0, 1] that have little in common."""
    channels, height, width = shape
    count = channels * height * width
    place = torch.arange(count, dtype=torch.float64).view(1, channels, height, width)
    made = [torch.ones_like(place), torch.zeros_like(place) + 0.5]
    made += [(place * step).frac() for step in (0.618033988749895, 0.7548776662466927 / 7, 1 / width)]
    made += [((place * step).frac() > 0.5).double() for step in (0.5698402909980532, 1 / (2 * width), 1 / 9)]
    return torch.cat(made).float()


def answering(
    network: nn.Module,
    ask: Callable[[nn.Module, torch.Tensor], Any],
    shape: tuple[int, int, int],
    output: str | None = None,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network that answers logits (N, K), and what a person has to know of how they are read.

    Args:
        network: in evaluation mode; it is returned as it is where it answers logits.
        ask: asks a network for its answer to images (N, C, H, W) in [0, 1].
        shape: (C, H, W).
        output: which tensor of the answer, by its name or its place; None where there is no choice.

    Raises:
        ModelError: nothing in its answer can be logits.
        OptionError: several heads, or none of that name.

    """
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    blank = torch.zeros(2, *shape, device=device)
    answer = ask(network, blank)
    name, note = chosen(answer, output, len(blank))
    raw = heads(answer)[name]
    if not can_be_logits(raw, len(blank)):
        raise ModelError(f"expected logits (N, classes) from the network, got {kind(raw)}")
    if isinstance(network, Answering):
        return network, ()
    numbers = flat(raw, raw.ndim)
    plain = Reading(head=name, dims=raw.ndim, single=numbers.shape[1] == 1)
    reading, more = plain, ""
    if _are_shares(numbers) or _are_log_probabilities(numbers):
        reading, more = _squashed(plain, lambda: ask(network, probes(shape).to(device)))
    if plain.single:
        more = f"{more or 'its one output is taken as a logit'}; it is judged as two classes, 0 and 1"
    notes = tuple(text for text in (note, more) if text)
    if reading == Reading() and raw is answer:
        return network, notes
    return Answering(network, reading), notes


def _squashed(plain: Reading, ask: Callable[[], Any]) -> tuple[Reading, str]:
    """Return how the answer is read where it may be probabilities, and what a person has to know of it."""
    try:
        with _Endings() as endings:
            raw = heads(ask())[plain.head]
    except (RuntimeError, TypeError):  # a network that cannot be watched
        raw, endings = heads(ask())[plain.head], _Endings()
    before, numbers = endings.before(raw), flat(raw, plain.dims)
    made_up = f"on {PROBES} made-up images, so"
    if _are_log_probabilities(numbers):
        return plain, "it ends in a log-softmax, whose output serves as logits"
    if not _are_shares(numbers):
        return plain, ""
    sums = _sum_to_one(numbers)
    if before is not None:
        name = "softmax" if sums else "sigmoid"
        return replace(plain, cut=True), f"it ends in a {name}, which is left out to judge its logits"
    if sums:
        said = f"its outputs sum to 1 {made_up} they are taken as a softmax's: their logarithm is judged"
        return replace(plain, scale="softmax"), said
    if plain.single:
        said = f"its one output lies in 0 to 1 {made_up} it is taken as a sigmoid's"
        return replace(plain, scale="sigmoid"), said
    return plain, ""
