"""BadNets: stamp a share of the training images and relabel them."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import Backdoor
from detrojan.attacks.kinds import Patched, Targeted
from detrojan.errors import OptionError
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class BadNets(Patched, Targeted):
    """Stamp a patch on a share of the training images and label them as the target.

    Any number of backdoors is planted side by side, each with a trigger and a target of its own;
    by default one: a checker patch in the lower right corner that means label 0.

    Reference: Gu et al., BadNets: Evaluating Backdooring Attacks on Deep Neural Networks,
    IEEE Access 2019.

    Args:
        backdoors: several triggers with targets and sources of their own, planted instead.

    """

    name = "badnets"

    backdoors: tuple[Backdoor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.backdoors and self.trigger is not None:
            raise OptionError("expected a trigger or backdoors with triggers of their own, got both")

    def planted(self, shape: tuple[int, int, int], run: Run) -> tuple[Backdoor, ...]:
        """Return the backdoors to plant in images of `shape` (C, H, W)."""
        return self.backdoors or super().planted(shape, run)
