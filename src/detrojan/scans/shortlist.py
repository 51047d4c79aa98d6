"""Which of many labels deserve a closer look: cheap probes rank them all, in a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from detrojan.judging.outliers import rank_p_values
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.probes import SECOND_LOOK, probe_scores


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


def shortlist(
    model: Classifier, ready: Prepared, *, run: Run, stop: Callable[[], bool], hasty: bool = False
) -> Shortlist:
    """Rank the labels to test by every probe, and merge the rankings by turns.

    A probe may be blind to a backdoor, so none has a veto: each hands in its next label when it is
    its turn, as far as that is not listed yet. So does the sum of all probes' ranks.

    Args:
        model: the network.
        ready: images, and the labels to test.
        run: device, seed, progress.
        stop: where it says yes, what has been ranked so far counts.
        hasty: take half of the passes.

    """
    probes = probe_scores(model, ready, run=run, stop=stop, hasty=hasty)
    labels = ready.tested
    rankings = {name: ranked_by(labels, scores) for name, scores in probes.scores.items()}
    rankings["together"] = ranked_by(labels, together(probes.scores))
    judged = [scores for name, scores in probes.scores.items() if name != SECOND_LOOK]
    return Shortlist(
        order=by_turns(rankings, rankings["together"]),
        ranks={name: {label: place for place, label in enumerate(order)} for name, order in rankings.items()},
        chances=_chances(labels, judged),
        passes=probes.passes,
        skipped=probes.skipped,
    )


def together(scores: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the sum over the probes of the negative logarithm of each label's rank (K,).

    As with Fisher's method a single high rank counts for much, and a low one for little: a probe that
    is blind to a backdoor hardly takes anything away.

    Args:
        scores: by probe, one for each label (K,), high is suspicious.

    """
    from scipy import stats  # noqa: PLC0415 - takes longer to import than to use

    known = [values.double().nan_to_num(nan=-torch.inf) for values in scores.values()]
    places = [stats.rankdata(-values.numpy()) for values in known]
    return torch.from_numpy(-np.log(np.stack(places)).sum(0))


def _chances(labels: Sequence[int], scores: Sequence[torch.Tensor]) -> dict[int, float]:
    """Return each label's chance of so high ranks in all probes together."""
    if len(labels) < POLICY.fewest_for_tail or not all(bool(values.isfinite().all()) for values in scores):
        return {}
    return dict(zip(labels, rank_p_values(scores).tolist(), strict=True))


def ranked_by(labels: Sequence[int], scores: torch.Tensor) -> list[int]:
    """Return the labels, the one of the highest score first."""
    return [labels[place] for place in scores.argsort(descending=True, stable=True).tolist()]


def by_turns(
    rankings: Mapping[str, Sequence[int]], rest: Sequence[int], turns: Sequence[str] = POLICY.turns
) -> list[int]:
    """Return all labels once: the rankings hand in theirs by turns, then the rest follows in its order."""
    queues = {name: iter(rankings[name]) for name in set(turns) & rankings.keys()}
    merged = dict[int, None]()
    while queues:
        for name in turns:
            if name in queues:
                following = next((label for label in queues[name] if label not in merged), None)
                if following is None:
                    del queues[name]
                else:
                    merged[following] = None
    merged |= dict.fromkeys(rest)
    return list(merged)
