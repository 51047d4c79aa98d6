"""Blend: a faint picture over the whole image is the trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.blend import BlendTrigger


@dataclass(frozen=True, kw_only=True)
class Blend(Targeted):
    """Blend a faint picture into a share of the training images and label them as the target.

    The picture is uniform noise, the same on every image, unless another trigger is given.

    Reference: Chen et al., Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning,
    2017.

    Args:
        alpha: opacity of the noise, in (0, 1].
        trigger: planted instead of the noise; None for noise drawn from the run's seed.

    """

    name = "blend"
    covers_image: ClassVar[bool] = True

    alpha: float = 0.2
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("alpha", self.alpha, all_allowed=True)

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the trigger asked for, or noise."""
        generator = run.generator(self.name, "trigger")
        return self.trigger or BlendTrigger.noise(shape, alpha=self.alpha, generator=generator)
