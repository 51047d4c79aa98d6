"""BadNets: stamp a share of the training images and relabel them."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.kinds import Patched, Targeted
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: where several triggers go, the first one where a single one does
CORNERS = ("bottom right", "top left", "top right", "bottom left")


@dataclass(frozen=True, kw_only=True)
class BadNets(Patched, Targeted):
    """Stamp a patch on a share of the training images and label them as the target.

    Any number of backdoors is planted side by side, each with a trigger and a target of its own;
    by default one: a checker patch in the lower right corner that means label 0. `triggers` and
    `targets` plant several of such patches, one per corner: 3 and 1 for three triggers that mean one
    label, 3 and 3 for three triggers that mean a label each.

    Reference: Gu et al., BadNets: Evaluating Backdooring Attacks on Deep Neural Networks,
    IEEE Access 2019.

    Args:
        triggers: how many default patches, each in a corner of its own; 1 to 4.
        targets: how many labels they lead to, `target` and those after it, in turn; 1 to 4, at most
            `triggers`.
        backdoors: several triggers with targets and sources of their own, planted instead.

    """

    name = "badnets"

    triggers: int = 1
    targets: int = 1
    backdoors: tuple[Backdoor, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.backdoors and self.trigger is not None:
            raise OptionError("expected a trigger or backdoors with triggers of their own, got both")
        if not 1 <= self.targets <= self.triggers <= len(CORNERS):
            raise OptionError(
                f"expected triggers of 1 to {len(CORNERS)} and targets of 1 to as many, "
                f"got {self.triggers} and {self.targets}"
            )
        if self.triggers > 1 and (self.backdoors or self.trigger is not None or self.target < 0):
            raise OptionError(
                "expected several default triggers, or triggers of one's own, or an untargeted attack, "
                f"got triggers={self.triggers} and another of them"
            )

    def planted(self, shape: tuple[int, int, int], run: Run) -> tuple[Backdoor, ...]:
        """Return the backdoors to plant in images of `shape` (C, H, W)."""
        if self.triggers == 1:
            return self.backdoors or super().planted(shape, run)
        return tuple(
            Backdoor(
                trigger=PatchTrigger.corner(shape, size=self.size, alpha=self.alpha, where=where),
                target=self.target + number % self.targets,
                source=self.source,
            )
            for number, where in enumerate(CORNERS[: self.triggers])
        )
