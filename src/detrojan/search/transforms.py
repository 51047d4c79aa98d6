"""Changes that are no picture of their own: warps, and what small filters draw of each image.

Their numbers are a list of tensors, each (J, ...) of J jobs that are worked on side by side.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from detrojan.findings import Unit
from detrojan.triggers.base import Trigger
from detrojan.triggers.filtered import FilterTrigger, filtered
from detrojan.triggers.warp import WarpTrigger, smooth_field, warped

Shape = tuple[int, int, int]
Parts = list[torch.Tensor]


class Transform(ABC):
    """One way to change images, within a reach beyond which it does not go.

    Attributes:
        name: for options and reports.
        what: one such change, in words.
        unit: of its size.
        reach: the largest size, for images of 32 pixels.
        rate: how far a step goes.

    """

    name: ClassVar[str]
    what: ClassVar[str]
    unit: ClassVar[Unit]
    reach: ClassVar[float]
    rate: ClassVar[float]

    def most(self, shape: Shape, times: float = 1.0) -> float:
        """Return the largest size for images of this shape, `times` the usual one."""
        del shape
        return self.reach * times

    @abstractmethod
    def start(self, shape: Shape, generator: torch.Generator) -> Parts:
        """Return the numbers that one job begins with."""

    @abstractmethod
    def stamp(self, parts: Sequence[torch.Tensor], images: torch.Tensor, most: float) -> torch.Tensor:
        """Return changed `images` (J, B, C, H, W), with gradients; no change is larger than `most`."""

    @abstractmethod
    def trigger(self, parts: Sequence[torch.Tensor], shape: Shape, most: float) -> Trigger:
        """Return one job's change as a trigger, for images of any `shape`."""

    @abstractmethod
    def size(self, trigger: Trigger, images: torch.Tensor) -> float:
        """Return how far a trigger changes `images` (N, C, H, W)."""


class Warp(Transform):
    """Move pixels by a smooth field: WaNet's form, its size how far pixels move.

    Reference: Nguyen and Tran, WaNet: Imperceptible Warping-based Backdoor Attack, ICLR 2021.
    """

    name = "warp"
    what = "a faint warp"
    unit = Unit(
        name="pixels moved",
        one="pixel of movement",
        many="pixels of movement",
        meaning="how far pixels move, as a root mean square over the image",
    )
    reach, rate = 0.7, 0.3
    GRID = 4

    def most(self, shape: Shape, times: float = 1.0) -> float:
        """Return how far pixels may move: a share of the shorter side."""
        return self.reach * times * min(shape[1:]) / 32

    def start(self, shape: Shape, generator: torch.Generator) -> Parts:
        """Return faint random movements of a coarse grid, in units of the shorter side / 32."""
        del shape
        return [torch.randn(2, self.GRID, self.GRID, generator=generator) * 0.1]

    def _field(self, parts: Sequence[torch.Tensor], size: tuple[int, int], most: float) -> torch.Tensor:
        field = smooth_field(parts[0], size) * (min(size) / 32)
        length = field.square().sum(1).mean((1, 2)).add(1e-12).sqrt()
        return field * (most / length).clamp(max=1)[:, None, None, None]

    def stamp(self, parts: Sequence[torch.Tensor], images: torch.Tensor, most: float) -> torch.Tensor:
        """Return warped images."""
        jobs, count, channels, height, width = images.shape
        field = self._field(parts, (height, width), most)
        together = images.reshape(jobs, count * channels, height, width)
        return warped(together, field).view_as(images)

    def trigger(self, parts: Sequence[torch.Tensor], shape: Shape, most: float) -> Trigger:
        """Return the warp."""
        return WarpTrigger(self._field([part[None] for part in parts], shape[1:], most)[0])

    def size(self, trigger: Trigger, images: torch.Tensor) -> float:
        """Return how far pixels move."""
        del images
        assert isinstance(trigger, WarpTrigger)
        return float(trigger.field.square().sum(0).mean().sqrt())


class Filter(Transform):
    """Add what a bank of small filters draws of each image, its size the root mean square.

    Colours, contrasts and edges can change so, and faint marks that differ from image to image.
    """

    name = "filter"
    what = "a faint change by a filter"
    unit = Unit(
        name="RMS",
        one="of root mean square",
        many="of root mean square",
        meaning="the root mean square of what is added to an image whose values go from 0 to 1",
    )
    reach, rate = 0.025, 0.02
    KINDS, SIDE = 8, 3

    def start(self, shape: Shape, generator: torch.Generator) -> Parts:
        """Return filters that look at anything and draw little."""
        channels, kinds, side = shape[0], self.KINDS, self.SIDE
        look = torch.randn(kinds, channels, side, side, generator=generator)
        draw = torch.randn(channels, kinds, side, side, generator=generator)
        return [
            look * (3 / math.sqrt(channels * side**2)),
            torch.randn(kinds, generator=generator) * 0.3,
            draw * (0.05 / math.sqrt(kinds * side**2)),
            torch.zeros(channels),
        ]

    def stamp(self, parts: Sequence[torch.Tensor], images: torch.Tensor, most: float) -> torch.Tensor:
        """Return images with what their filters draw of them."""
        return filtered(images, parts, most)

    def trigger(self, parts: Sequence[torch.Tensor], shape: Shape, most: float) -> Trigger:
        """Return the filters."""
        return FilterTrigger(shape, parts, most)

    def size(self, trigger: Trigger, images: torch.Tensor) -> float:
        """Return the root mean square of the change."""
        return float((trigger.stamp(images) - images).square().mean().sqrt())


TRANSFORMS: dict[str, Transform] = {one.name: one for one in (Warp(), Filter())}
