"""Whether a label is reached by a small change because of a natural feature: a veto on doubtful findings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import torch

from detrojan.errors import ModelError
from detrojan.judging.evidence import Evidence
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.metrics.class_alignment import ClassAlignment
from detrojan.models.classifier import Classifier
from detrojan.search.jobs import Job
from detrojan.search.plan import Found


class Natural:
    """Compares how the additive changes of labels move features. What was measured is kept.

    Args:
        model: the network.
        ready: images, and the network's answers to them.

    """

    def __init__(self, model: Classifier, ready: Prepared) -> None:
        self.model, self.ready = model, ready
        self.known: dict[Job, tuple[Found, float | None]] = {}

    @cached_property
    def _compass(self) -> ClassAlignment | None:
        """What compares features; nothing where the network does not end in a linear layer."""
        ready = self.ready
        try:
            return ClassAlignment(self.model, ready.images, ready.answers, ready.half)
        except ModelError:
            return None

    def alignment(self, entry: Evidence) -> float | None:
        """Return how a label's additive change moves features, beside the way to the label's own images.

        Returns:
            A mean cosine, -1 to 1; None where it is not known.

        """
        change = entry.found["additive"]
        found, value = self.known.get(entry.job, (None, None))
        if found is not change:
            value = None
            if math.isfinite(change.size) and self._compass is not None:
                value = self._compass.of(change.trigger, entry.job.target)
            self.known[entry.job] = (change, value)
        return value

    def measured(self, entry: Evidence) -> float | None:
        """Return a label's alignment where it was asked for before, else None."""
        found, value = self.known.get(entry.job, (None, None))
        return value if found is entry.found["additive"] else None

    def ordinary(self, entry: Evidence, usual: Iterable[Evidence]) -> bool:
        """Whether a label's alignment is no lower than the lower quartile of usual labels.

        It is not where too few alignments are known.
        """
        others = list(usual)
        if len(others) < POLICY.fewest_alignments:
            return False
        own = self.alignment(entry)
        known = [one for one in map(self.alignment, others) if one is not None]
        if own is None or len(known) < POLICY.fewest_alignments:
            return False
        return own >= float(torch.tensor(known).quantile(POLICY.ordinary))
