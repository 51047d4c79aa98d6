"""How poison gets into data: drawing, relabelling and covers, the same for every attack."""

from __future__ import annotations

from dataclasses import replace

import torch

from detrojan.attacks.base import Poisoned
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.triggers.backdoor import Backdoor


class Planting:
    """A copy of labelled data in which poison and covers are laid out; each sample is used once.

    Args:
        data: labelled images; unchanged.
        backdoors: what is planted.
        generator: where the samples are drawn from.

    Raises:
        LabelError: the data carry no labels.
        OptionError: a target or source beyond the labels.

    """

    def __init__(self, data: Dataset, backdoors: tuple[Backdoor, ...], generator: torch.Generator) -> None:
        self.truth = data.require_labels("poisoning")
        self.data, self.backdoors, self.generator = data, backdoors, generator
        self.classes = max(int(self.truth.max()) + 1, len(data.class_names))
        self.images, self.labels = data.images.clone(), self.truth.clone()
        self._which = torch.full((len(data),), -1)
        self._covers = torch.zeros(len(data), dtype=torch.bool)
        for backdoor in backdoors:
            backdoor.aim.check(self.classes)

    def free(self, wanted: torch.Tensor) -> torch.Tensor:
        """Return the positions of the samples out of `wanted` (N,) bool that nothing was done to yet."""
        return (wanted & (self._which < 0) & ~self._covers).nonzero().flatten()

    def victims(self, number: int) -> torch.Tensor:
        """Return the positions of the free samples that backdoor `number` is meant for."""
        return self.free(self.backdoors[number].aim.victims(self.truth))

    def draw(self, candidates: torch.Tensor, count: int, *, what: str, cure: str) -> torch.Tensor:
        """Return `count` positions out of `candidates`, drawn without repeats.

        Args:
            candidates: positions.
            count: how many, 1 or more.
            what: completes "expected 1 to N images ...".
            cure: the hyper-parameter to change.

        Raises:
            OptionError: none is asked for, or more than there are.

        """
        if not 0 < count <= len(candidates):
            raise OptionError(
                f"expected 1 to {len(candidates)} images {what}, got {count}; change the {cure}"
            )
        return candidates[torch.randperm(len(candidates), generator=self.generator)[:count]]

    def draw_covers(self, rate: float, wanted: torch.Tensor | None = None) -> torch.Tensor:
        """Return the positions of a share of the samples, none of which anything was done to yet.

        Args:
            rate: share of the samples, 0 to 1; none are drawn where it comes to less than half of one.
            wanted: (N,) bool, which samples it is a share of; None for all.

        Raises:
            OptionError: fewer are free.

        """
        wanted = torch.ones_like(self._covers) if wanted is None else wanted
        candidates, count = self.free(wanted), round(rate * int(wanted.sum()))
        if not count:
            return candidates[:0]
        return self.draw(candidates, count, what="to cover the backdoor", cure="cover rate")

    def poison(
        self, chosen: torch.Tensor, number: int, images: torch.Tensor, *, relabel: bool = True
    ) -> None:
        """Put poisoned `images` at the positions `chosen`, with the labels backdoor `number` teaches."""
        self.images[chosen] = images
        if relabel:
            self.labels[chosen] = self.backdoors[number].aim.taught(self.truth[chosen], self.classes)
        self._which[chosen] = number

    def cover(self, chosen: torch.Tensor, images: torch.Tensor) -> None:
        """Put covers at the positions `chosen`; their labels stay."""
        self.images[chosen] = images
        self._covers[chosen] = True

    def poisoned(self) -> Poisoned:
        """Return the data as they are now, and what was done to them."""
        indices = (self._which >= 0).nonzero().flatten()
        source = f"{self.data.source} (poisoned)"
        return Poisoned(
            data=replace(
                self.data, images=self.images, labels=self.labels, source=source, sha256="", notes=()
            ),
            indices=indices,
            which=self._which[indices],
            backdoors=self.backdoors,
            covers=self._covers.nonzero().flatten(),
        )
