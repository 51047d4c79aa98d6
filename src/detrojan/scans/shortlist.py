"""Which of many labels deserve a closer look: cheap probes rank them all, in a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from detrojan.errors import ModelError
from detrojan.judging.outliers import rank_p_values
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.metrics.attraction import attraction
from detrojan.metrics.latent_margin import latent_margins
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.screen import screen


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """All labels that were looked at, most suspicious first.

    Attributes:
        order: labels.
        ranks: by probe, the place of each label, from 0; labels that a probe did not score are missing.
        chances: how likely a label without a backdoor scores so high in all probes together, by label,
            not corrected for the number of labels; empty where there are too few to know.
        passes: forward+backward passes of one sample.
        skipped: probes that could not be used, with the reason.

    """

    order: list[int]
    ranks: dict[str, dict[int, int]] = field(default_factory=dict)
    chances: dict[int, float] = field(default_factory=dict)
    passes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def facts(self, labels: Sequence[int]) -> dict[str, Any]:
        """Return each label's place by probe, for a report."""
        return {str(label): {name: rank.get(label) for name, rank in self.ranks.items()} for label in labels}


def shortlist(model: Classifier, ready: Prepared, *, run: Run, stop: Callable[[], bool]) -> Shortlist:
    """Rank the labels to test by every probe, and merge the rankings by turns.

    A probe may be blind to a backdoor, so none has a veto: each hands in its next label when it is
    its turn, as far as that is not listed yet.

    Args:
        model: the network.
        ready: images, and the labels to test.
        run: device, seed, progress.
        stop: where it says yes, what has been ranked so far counts.

    """
    images, truth = ready.search
    labels, skipped = ready.tested, dict[str, str]()
    coarse = screen(
        model, images, truth, labels, run=run, strength=POLICY.strong, title="screening", stop=stop
    )
    scores = {"screening": coarse.margins}
    order = coarse.margins.argsort(descending=True, stable=True)
    kept = sorted(
        labels[place] for place in order[: max(1, round(POLICY.second_look * len(labels)))].tolist()
    )
    fine = screen(
        model,
        images,
        truth,
        kept,
        run=run.within("fine"),
        strength=POLICY.faint,
        steps=POLICY.faint_steps,
        images_each=POLICY.faint_images,
        title="second look",
        stop=stop,
    )
    rankings = {"screening": _ranked(kept, fine.margins)}
    try:
        scores["latent_margin"] = latent_margins(model, images)[labels]
        rankings["latent_margin"] = _ranked(labels, scores["latent_margin"])
    except ModelError as error:
        skipped["latent_margin"] = str(error)
    if not stop():
        found = attraction(model, images, run.generator("attractor"), count=POLICY.strange)
        scores["attractor"] = found.score[labels]
        rankings["attractor"] = _ranked(labels, scores["attractor"])
    rest = [labels[place] for place in order.tolist()]
    return Shortlist(
        order=_by_turns(rankings, rest),
        ranks={name: {label: place for place, label in enumerate(order)} for name, order in rankings.items()},
        chances=_chances(labels, scores),
        passes=coarse.passes + fine.passes,
        skipped=skipped,
    )


def _chances(labels: Sequence[int], scores: dict[str, torch.Tensor]) -> dict[int, float]:
    """Return each label's chance of so high ranks in all probes together."""
    if len(labels) < POLICY.fewest_for_tail or not all(
        bool(values.isfinite().all()) for values in scores.values()
    ):
        return {}
    return dict(zip(labels, rank_p_values(list(scores.values())).tolist(), strict=True))


def _ranked(labels: Sequence[int], scores: torch.Tensor) -> list[int]:
    return [labels[place] for place in scores.argsort(descending=True, stable=True).tolist()]


def _by_turns(rankings: dict[str, list[int]], rest: Sequence[int]) -> list[int]:
    """Return all labels once: the probes hand in theirs by turns, then the rest follows in its order."""
    queues = {name: iter(order) for name, order in rankings.items()}
    merged = dict[int, None]()
    while queues:
        for name in POLICY.turns:
            if name in queues:
                following = next((label for label in queues[name] if label not in merged), None)
                if following is None:
                    del queues[name]
                else:
                    merged[following] = None
    merged |= dict.fromkeys(rest)
    return list(merged)
