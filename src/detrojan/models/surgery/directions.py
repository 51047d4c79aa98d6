"""What the inputs of a layer are like: the directions that images excite, and those that they do not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from detrojan.models.classifier import Classifier

#: images of one pass, and positions that are drawn from each map of a convolution
IMAGES, POSITIONS = 128, 64
#: a direction with less than this share of the greatest power is none
RANK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What the weights of a layer are multiplied with: first and second moments, as sums.

    Attributes:
        count: how many inputs (patches, for a convolution).
        total: their sum, (D,), float64.
        rows: the inputs themselves, (count, D), as long as they are no more than D.
        square: the sum of their outer products, (D, D), float64, once they are more.

    """

    count: int
    total: torch.Tensor
    rows: torch.Tensor | None = None
    square: torch.Tensor | None = None

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both."""
        count, total = self.count + other.count, self.total + other.total
        if self.rows is not None and other.rows is not None and count <= len(total):
            return Moments(count=count, total=total, rows=torch.cat([self.rows, other.rows]))
        return Moments(count=count, total=total, square=self._squared() + other._squared())

    def _squared(self) -> torch.Tensor:
        if self.square is not None:
            return self.square
        assert self.rows is not None
        # summed in double precision: the weakest directions are what matters
        return (self.rows.T @ self.rows).double()

    def directions(self, *, centred: bool) -> Directions:
        """Return the directions of the inputs; about their mean if `centred`, about zero otherwise."""
        mean = self.total / self.count if centred else torch.zeros_like(self.total)
        if self.rows is not None and self.count <= len(mean):
            # fewer inputs than dimensions: what they do not span has no power, and no direction here
            rows = self.rows.double() - mean
            found = torch.linalg.eigh(rows @ rows.T / self.count)
            used = found.eigenvalues > RANK * found.eigenvalues[-1]
            power = found.eigenvalues[used]
            basis = rows.T @ found.eigenvectors[:, used] / (power * self.count).sqrt()
        else:
            found = torch.linalg.eigh(self._squared() / self.count - torch.outer(mean, mean))
            power, basis = found.eigenvalues.clamp(min=0), found.eigenvectors
        tiny = torch.finfo(power.dtype).tiny
        usual = (power.sum() / len(self.total)).clamp(min=tiny)
        return Directions(mean=mean, power=power / usual, basis=basis.float())


@dataclass(frozen=True, kw_only=True)
class Directions:
    """The principal directions of a layer's inputs.

    Attributes:
        mean: of the inputs, or zeros, (D,).
        power: the variance along each direction, as a multiple of the mean of all D, (R,), ascending.
        basis: the directions, in columns, (D, R), float32; along all others the inputs do not vary.

    """

    mean: torch.Tensor
    power: torch.Tensor
    basis: torch.Tensor


def weighted(model: Classifier) -> list[str]:
    """Return the names of the layers whose directions can be pruned, in the order in which they run.

    They are linear layers and two-dimensional convolutions of one group.
    """
    found = []
    for layer in model.layers:
        module = model.module(layer.name)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            found.append(layer.name)
    return found


def moments(
    model: Classifier, images: torch.Tensor, layers: Sequence[str], generator: torch.Generator
) -> dict[str, Moments]:
    """Return the moments of each layer's inputs on `images` (N, C, H, W).

    Of each map that a convolution makes, at most `POSITIONS` are drawn from `generator`.
    """
    made: dict[str, Moments] = {}

    def add(name: str, module: nn.Module, inputs: torch.Tensor) -> None:
        rows = _rows(module, inputs, generator).cpu()
        new = Moments(count=len(rows), total=rows.sum(0).double(), rows=rows)
        made[name] = made[name] + new if name in made else new

    with model.judging(), torch.no_grad(), _told_inputs(model, layers, add):
        for start in range(0, len(images), IMAGES):
            model.logits(images[start : start + IMAGES].to(model.device))
    return made


def shrink(model: Classifier, layer: str, found: Directions, strength: float) -> None:
    """Shrink a layer's weights, in place, along the directions of little power.

    A weight along a direction of power p is multiplied by p / (p + strength). What the layer answers to
    the mean input stays the same where it has a bias and the directions are centred. The strength is
    above 0.
    """
    module = model.module(layer)
    assert isinstance(module, nn.Linear | nn.Conv2d)
    with torch.no_grad():
        flat = module.weight.flatten(1)
        before = flat.float().cpu()
        kept = (found.power / (found.power + strength)).float()
        after = (before @ found.basis * kept) @ found.basis.T
        if module.bias is not None:
            module.bias += ((before - after) @ found.mean.float()).to(module.bias)
        module.weight.copy_(after.to(flat).view_as(module.weight))


@contextmanager
def _told_inputs(
    model: Classifier, layers: Sequence[str], tell: Callable[[str, nn.Module, torch.Tensor], None]
) -> Iterator[None]:
    """While the body runs the network, call `tell` before each layer: later its inputs may be others."""
    handles = []
    for name in layers:

        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            tell(name, module, inputs[0])

        handles.append(model.module(name).register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(module: nn.Module, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return what each output of a layer is a weighted sum of, (rows, D)."""
    if not isinstance(module, nn.Conv2d):
        return inputs.flatten(0, -2)
    size = module.weight[0].numel()
    # a kernel that answers its inputs pads and strides as the layer itself does, whatever its class
    probe = type(module).__new__(type(module))
    probe.__dict__ = dict(module.__dict__)
    probe._parameters = {  # noqa: SLF001
        "weight": nn.Parameter(
            torch.eye(size, device=inputs.device).view(size, *module.weight.shape[1:]), requires_grad=False
        ),
        "bias": None,
    }
    probe._forward_pre_hooks, probe._forward_hooks = OrderedDict(), OrderedDict()  # noqa: SLF001
    rows: torch.Tensor = probe(inputs).flatten(2)
    if rows.shape[2] > POSITIONS:
        drawn = torch.randperm(rows.shape[2], generator=generator)[:POSITIONS]
        rows = rows[:, :, drawn.to(rows.device)]
    return rows.transpose(1, 2).flatten(0, 1)
