"""What the stages of the cascade ask of the method, so that they need not know it."""

from __future__ import annotations

from typing import Literal, Protocol

from detrojan.search.plan import Plan


class Settings(Protocol):
    """What the stages ask of the method: its hyper-parameters, and how triggers are searched."""

    @property
    def samples(self) -> int:
        """Images to use."""

    @property
    def candidates(self) -> int:
        """Labels that are searched at a time where there are many."""

    @property
    def controls(self) -> int:
        """Labels drawn at random beside them."""

    @property
    def significance(self) -> float:
        """The p-value below which a label is flagged."""

    @property
    def ratio(self) -> float:
        """The most that a flagged trigger has of the usual size."""

    @property
    def confirm(self) -> float:
        """Attack success on held-out images that a flagged trigger must reach."""

    @property
    def budget(self) -> float:
        """Seconds after which no further search begins, 0 for no limit."""

    def hasty(self) -> Settings:
        """Return the same with fewer images for each update."""

    def plan(self, kind: Literal["patch", "window", "additive"], *, many: bool = False) -> Plan:
        """Return how triggers of a kind are searched."""
