"""WaNet: a smooth warp is the trigger; nothing is pasted into the image."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.attacks.planting import Planting
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.warp import WarpTrigger


@dataclass(frozen=True, kw_only=True)
class WaNet(Targeted):
    """Warp a share of the training images by one smooth field and label them as the target.

    More images are warped by the field plus noise and keep their label (noise mode), so that the
    network answers this field and not any deformation. Both are laid out once, before the training,
    where the paper does it again in every batch.

    Reference: Nguyen and Tran, WaNet: Imperceptible Warping-based Backdoor Attack, ICLR 2021.

    Args:
        strength: the paper's s; the control points move by s / 2 pixels on average; above 0.
        grid: the paper's k, control points of the field per direction; 2 or more.
        cover_rate: share of the training images in noise mode, in [0, 1).

    """

    name = "wanet"

    strength: float = 0.5
    grid: int = 4
    cover_rate: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("cover_rate", self.cover_rate, none_allowed=True)
        if not self.strength > 0 or self.grid < 2:
            raise OptionError(
                f"expected strength above 0 and grid of 2 or more, got {self.strength:g} and {self.grid}"
            )

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the warp for images of `shape` (C, H, W)."""
        return WarpTrigger.elastic(
            shape[1:],
            grid=self.grid,
            strength=self.strength,
            generator=run.generator(self.name, "trigger"),
        )

    def hide(self, planting: Planting) -> None:
        """Lay out the images in noise mode."""
        trigger = planting.backdoors[0].trigger
        assert isinstance(trigger, WarpTrigger)
        chosen = planting.draw_covers(self.cover_rate)
        planting.cover(chosen, trigger.stamp_noisy(planting.data.images[chosen], planting.generator))
