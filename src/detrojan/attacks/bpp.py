"""BppAttack: fewer colours are the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.attacks.planting import Planting
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.quantise import QuantiseTrigger


@dataclass(frozen=True, kw_only=True)
class Bpp(Targeted):
    """Quantise the colours of a share of the training images, dithered, and label them as the target.

    More images get the rounding errors of another image added and keep their label, so that the
    network answers quantised colours and not any noise of that size. Both are laid out once, before
    the training, where the paper does it again in every batch.

    Reference: Wang et al., BppAttack: Stealthy and Efficient Trojan Attacks against Deep Neural
    Networks via Image Quantization and Contrastive Adversarial Learning, CVPR 2022.

    Args:
        levels: levels per colour channel, 2 to 255.
        dither: hand each pixel's rounding error on to its neighbours (Floyd-Steinberg).
        cover_rate: share of the training images with the noise of others, in [0, 1).

    """

    name = "bpp"

    levels: int = 8
    dither: bool = True
    cover_rate: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("cover_rate", self.cover_rate, none_allowed=True)
        if not 2 <= self.levels <= 255:
            raise OptionError(f"expected levels of 2 to 255, got {self.levels}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the quantisation."""
        return QuantiseTrigger(self.levels, dither=self.dither)

    def hide(self, planting: Planting) -> None:
        """Lay out the images that get another one's rounding errors."""
        chosen = planting.draw_covers(self.cover_rate)
        images = planting.data.images
        lender = torch.randint(len(images), chosen.shape, generator=planting.generator)
        errors = planting.backdoors[0].trigger.stamp(images[lender]) - images[lender]
        planting.cover(chosen, (images[chosen] + errors).clamp(0, 1))
