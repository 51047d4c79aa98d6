"""What a universal change of images looks like, how large it is, and how it is made smaller.

A form holds no state: its numbers are tensors (J, ...) of J jobs that are worked on side by side.
Pixels are kept channels last and flat, (J, H * W, maps), as the convolutions like them best.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from detrojan.errors import OptionError
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

Shape = tuple[int, int, int]
State = dict[str, torch.Tensor]
#: a mask begins around this logit: half transparent, since what it hides cannot be learnt
_START_MASK = 0.0
#: a mask that begins where there is no patch
_FAINT = 1e-3


class Form(ABC):
    """One way to change images: what is stamped, what its size is, and one step downhill."""

    name: ClassVar[str] = ""
    #: what the size counts, for people
    unit: ClassVar[str] = ""
    #: whether a change that works is still about the same at the next step
    steady: ClassVar[bool] = True

    @abstractmethod
    def start(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        """Return the raw numbers (H * W, maps) that one job begins with."""

    @abstractmethod
    def stamp(self, raw: torch.Tensor, images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the changed `images` (J, B, H * W * C) to `out` and return it."""

    @abstractmethod
    def slope(
        self, raw: torch.Tensor, by_pixel: torch.Tensor, images: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss's slope by the raw numbers, given that by the changed images.

        `by_pixel` (J, B, H * W * C) may be overwritten; `out` is what `stamp` has written.
        """

    @abstractmethod
    def size(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the size of each job's change (J,)."""

    @abstractmethod
    def begin(self, raw: torch.Tensor) -> State:
        """Return what `descend` remembers of each job, as it is before the first step."""

    @abstractmethod
    def descend(
        self, raw: torch.Tensor, slope: torch.Tensor, works: torch.Tensor, state: State, step: int
    ) -> torch.Tensor:
        """Return the raw numbers after a step; `works` (J,) says where the change is good enough."""

    @abstractmethod
    def trigger(self, raw: torch.Tensor, shape: Shape) -> Trigger:
        """Return one job's change as a trigger."""


class _Weighed(Form):
    """Minimises loss + weight * size by Adam; the weight follows the success, step by step.

    Neural Cleanse waits for several successes or failures before it moves the weight, by a factor;
    moving it a little at every step needs a tenth of the steps for the same masks.
    """

    RATE, FIRST, SECOND = 0.35, 0.5, 0.9
    GROW, SHRINK, LEAST, MOST = 1.25, 1.6, 1e-5, 10.0

    @abstractmethod
    def size_slope(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the slope of `size` by the raw numbers."""

    def begin(self, raw: torch.Tensor) -> State:
        """Return Adam's moments and the weight."""
        weight = torch.full((len(raw),), 0.5 / raw.shape[1])
        return {"first": torch.zeros_like(raw), "second": torch.zeros_like(raw), "weight": weight}

    def descend(
        self, raw: torch.Tensor, slope: torch.Tensor, works: torch.Tensor, state: State, step: int
    ) -> torch.Tensor:
        """One step of Adam on loss + weight * size."""
        weight = torch.where(works, state["weight"] * self.GROW, state["weight"] / self.SHRINK)
        gradient = slope + state["weight"][:, None, None] * self.size_slope(raw)
        state["weight"] = weight.clamp(self.LEAST, self.MOST)
        state["first"].lerp_(gradient, 1 - self.FIRST)
        state["second"].lerp_(gradient.square(), 1 - self.SECOND)
        scale = (state["second"] / (1 - self.SECOND ** (step + 1))).sqrt_().add_(1e-8)
        return raw.addcdiv(state["first"], scale, value=-self.RATE / (1 - self.FIRST ** (step + 1)))


class Patch(_Weighed):
    """Blend a picture in through a mask: Neural Cleanse's form, its size the mask's L1."""

    name = "patch"
    unit = "pixels of mask"

    def start(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        """Return a faint random mask and a random picture."""
        channels, height, width = shape
        raw = torch.randn(height * width, 1 + channels, generator=generator)
        raw[:, 0] += _START_MASK
        return raw

    def stamp(self, raw: torch.Tensor, images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write (1 - m) * x + m * p."""
        values = raw.sigmoid()
        mask = values[..., :1].expand_as(values[..., 1:])
        return torch.addcmul(_rows(mask * values[..., 1:]), images, _rows(1 - mask), out=out)

    def slope(
        self, raw: torch.Tensor, by_pixel: torch.Tensor, images: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the slope by mask and picture."""
        values = raw.sigmoid()
        mask, picture = values[..., :1], values[..., 1:]
        by_stamped = by_pixel.sum(1).view_as(picture)
        by_image = torch.mul(by_pixel, images, out=out).sum(1).view_as(picture)
        by_mask = (by_stamped * picture - by_image).sum(-1, keepdim=True)
        return torch.cat([by_mask, by_stamped * mask], -1) * values * (1 - values)

    def size(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the masks' L1."""
        return raw[..., 0].sigmoid().sum(1)

    def size_slope(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the slope of the masks' L1."""
        slope = torch.zeros_like(raw)
        mask = raw[..., 0].sigmoid()
        slope[..., 0] = mask * (1 - mask)
        return slope

    def trigger(self, raw: torch.Tensor, shape: Shape) -> Trigger:
        """Return mask and picture."""
        values = _picture(raw.sigmoid(), shape)
        return PatchTrigger(values[0].clamp(0, 1), values[1:].clamp(0, 1))

    @staticmethod
    def raw(trigger: PatchTrigger) -> torch.Tensor:
        """Return the raw numbers (H * W, 1 + C) of a patch, to begin a search with; grey where it is not."""
        picture = torch.where(trigger.mask > _FAINT, trigger.pattern, torch.full_like(trigger.pattern, 0.5))
        values = torch.cat([trigger.mask, picture]).clamp(_FAINT, 1 - _FAINT)
        return values.logit().flatten(1).T.contiguous()


class Pixel(_Weighed):
    """Add one map and take away another: Pixel's form, its size a smooth count of changed pixels.

    Reference: Tao et al., Better Trigger Inversion Optimization in Backdoor Scanning, CVPR 2022.
    """

    name = "pixel"
    unit = "pixels changed"
    #: a change of this share of the range counts as three quarters of a pixel
    KNEE = 0.2

    def start(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        """Return two faint random maps."""
        channels, height, width = shape
        return torch.randn(height * width, 2 * channels, generator=generator) * 0.4 - 1.0

    @staticmethod
    def _maps(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        up, down = raw.sigmoid().chunk(2, -1)
        return up, down

    def stamp(self, raw: torch.Tensor, images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write clip(x + p - n)."""
        up, down = self._maps(raw)
        return torch.add(images, _rows(up - down), out=out).clamp_(0, 1)

    def slope(
        self, raw: torch.Tensor, by_pixel: torch.Tensor, images: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the slope by both maps; where the clip cuts, there is none."""
        del images
        up, down = self._maps(raw)
        inside = (out > 0).logical_and_(out < 1)
        by_change = by_pixel.mul_(inside).sum(1).view_as(up)
        return torch.cat([by_change * up * (1 - up), -by_change * down * (1 - down)], -1)

    def size(self, raw: torch.Tensor) -> torch.Tensor:
        """Return how many pixels are changed, the strongest channel of each counted."""
        counts: torch.Tensor = self._counts(raw).amax(-1)
        return counts.sum(1)

    def _counts(self, raw: torch.Tensor) -> torch.Tensor:
        return (raw.sigmoid() / self.KNEE).tanh()

    def size_slope(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the slope of the count: the strongest channel's of each pixel."""
        values, counts = raw.sigmoid(), self._counts(raw)
        strongest = torch.zeros_like(raw).scatter_(-1, counts.argmax(-1, keepdim=True), 1.0)
        return strongest * (1 - counts.square()) * values * (1 - values) / self.KNEE

    def trigger(self, raw: torch.Tensor, shape: Shape) -> Trigger:
        """Return the difference of the two maps."""
        up, down = self._maps(raw)
        return AdditiveTrigger(_picture(up - down, shape))


class Additive(Form):
    """Add the same faint picture everywhere: a universal perturbation, its size the L2 norm.

    The change is kept in a ball whose radius shrinks while the change works and grows while it
    does not; the step within it follows the slope's direction alone.

    Reference: Moosavi-Dezfooli et al., Universal Adversarial Perturbations, CVPR 2017.
    """

    name = "additive"
    unit = "L2 norm"
    steady = False
    MEMORY, STRIDE = 0.7, 0.35
    SHRINK, GROW = 0.93, 1.08
    #: the first radius, as a root mean square over all pixels
    FIRST_RADIUS = 0.02

    def start(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        """Return no change."""
        del generator
        channels, height, width = shape
        return torch.zeros(height * width, channels)

    def stamp(self, raw: torch.Tensor, images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write clip(x + d)."""
        return torch.add(images, _rows(raw), out=out).clamp_(0, 1)

    def slope(
        self, raw: torch.Tensor, by_pixel: torch.Tensor, images: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the slope by the change, as if nothing were clipped."""
        del images, out
        return by_pixel.sum(1).view_as(raw)

    def size(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the L2 norms."""
        norm: torch.Tensor = raw.flatten(1).norm(dim=1)
        return norm

    def begin(self, raw: torch.Tensor) -> State:
        """Return the momentum and the radius."""
        radius = torch.full((len(raw),), self.FIRST_RADIUS * (raw.shape[1] * raw.shape[2]) ** 0.5)
        return {"momentum": torch.zeros_like(raw), "radius": radius}

    def descend(
        self, raw: torch.Tensor, slope: torch.Tensor, works: torch.Tensor, state: State, step: int
    ) -> torch.Tensor:
        """Step along the momentum's direction, then go back into the ball."""
        if step:
            smaller = torch.minimum(state["radius"], self.size(raw)) * self.SHRINK
            state["radius"] = torch.where(works, smaller, state["radius"] * self.GROW)
        state["momentum"] = state["momentum"] * self.MEMORY + _unit(slope)
        radius = state["radius"][:, None, None]
        moved = raw - self.STRIDE * radius * _unit(state["momentum"])
        norm = moved.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-12)
        inside: torch.Tensor = moved * (radius / norm).clamp(max=1)
        return inside

    def trigger(self, raw: torch.Tensor, shape: Shape) -> Trigger:
        """Return the change; beyond the full range it changes nothing more."""
        return AdditiveTrigger(_picture(raw.clamp(-1, 1), shape))


FORMS: dict[str, Form] = {form.name: form for form in (Patch(), Pixel(), Additive())}


def form_named(name: str) -> Form:
    """Return the form called `name`.

    Raises:
        OptionError: there is none.

    """
    if name not in FORMS:
        raise OptionError(f"expected a form out of {', '.join(FORMS)}, got {name!r}")
    return FORMS[name]


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """Return (J, H * W, C) as (J, 1, H * W * C), to be spread over the images of a batch."""
    return maps.reshape(len(maps), 1, -1)


def _unit(values: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = values.flatten(1).norm(dim=1)
    return values / norm.clamp_min(1e-12)[:, None, None]


def _picture(pixels: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Return (H * W, maps) as (maps, H, W)."""
    return pixels.T.reshape(-1, *shape[1:]).contiguous()
