"""Adaptive blend: parts of a picture teach, the whole picture fires, covers blur the difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.attacks.planting import Planting
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.pieces import PiecesTrigger


@dataclass(frozen=True, kw_only=True)
class AdaptiveBlend(Targeted):
    """Blend random pieces of a picture into few images; half of these keep their label as covers.

    Against the trained network the whole picture is used, which is stronger than anything the
    network was trained on. In the space of features poisoned and clean samples lie close together,
    which blinds the defences that separate them. The picture is uniform noise.

    Reference: Qi et al., Revisiting the Assumption of Latent Separability for Backdoor Defenses,
    ICLR 2023.

    Args:
        poison_rate: share of the training images that gets pieces and the target's label, in (0, 1);
            at least one image does.
        alpha: opacity of the picture, in (0, 1].
        pieces: how many pieces the picture is cut into, a square number; 1 or more.
        masked: share of the pieces that is left out of a training image, in [0, 1).
        cover_rate: share of the training images that gets pieces and keeps its label, in [0, 1).

    """

    name = "adaptive_blend"

    poison_rate: float = 0.003
    alpha: float = 0.2
    pieces: int = 16
    masked: float = 0.5
    cover_rate: float = 0.003

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("alpha", self.alpha, all_allowed=True)
        check_share("masked", self.masked, none_allowed=True)
        check_share("cover_rate", self.cover_rate, none_allowed=True)
        if self.pieces < 1 or math.isqrt(self.pieces) ** 2 != self.pieces:
            raise OptionError(f"expected pieces as a square number of 1 or more, got {self.pieces}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the picture, whole."""
        pattern = torch.rand(shape, generator=run.generator(self.name, "trigger"))
        return PiecesTrigger(pattern, self.alpha, self.pieces)

    def count(self, planting: Planting, number: int) -> int:
        """Return how many images are poisoned: so small a share shall not round to none."""
        return max(1, super().count(planting, number))

    def stamped(self, trigger: Trigger, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return images with a part of the pieces, another one on each."""
        assert isinstance(trigger, PiecesTrigger)
        order = torch.rand(len(images), self.pieces, generator=generator).argsort(1).argsort(1)
        return trigger.stamp_some(images, order >= round(self.masked * self.pieces))

    def hide(self, planting: Planting) -> None:
        """Lay out the images that get pieces and keep their label."""
        trigger = planting.backdoors[0].trigger
        chosen = planting.draw_covers(self.cover_rate)
        planting.cover(chosen, self.stamped(trigger, planting.data.images[chosen], planting.generator))
