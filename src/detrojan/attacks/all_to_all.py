"""All-to-all: the trigger turns each class into the next one."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.kinds import Patched, Relabelling
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor


@dataclass(frozen=True, kw_only=True)
class AllToAll(Patched, Relabelling):
    """Stamp a patch on images of every class and label each as the class after its own.

    The network has to recognise both the object and the trigger. Success is exactly the label asked
    for, (y + offset) mod K, not just any mistake.

    Reference: Gu et al., BadNets: Evaluating Backdooring Attacks on Deep Neural Networks,
    IEEE Access 2019.

    Args:
        offset: what is added to the true label, modulo the number of classes; 1 or more.

    """

    name = "all_to_all"

    offset: int = 1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.offset < 1:
            raise OptionError(f"expected an offset of 1 or more, got {self.offset}")

    def planted(self, shape: tuple[int, int, int], run: Run) -> tuple[Backdoor, ...]:
        """Return the backdoor to plant in images of `shape` (C, H, W)."""
        return (Backdoor(trigger=self.made(shape, run), offset=self.offset),)
