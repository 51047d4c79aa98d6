"""Which samples an unlearning keeps right, judges by and draws in."""

from __future__ import annotations

import math

import torch

from detrojan.data.dataset import Dataset
from detrojan.run import Run

#: at most so many other samples are kept right for each one that is unlearned
BESIDE = 20
#: they are drawn from this share of the data, whose losses were high both in the isolation and after it, and
#: from this share of each isolated sample's label, however easy the label is
DOUBTED, OF_LABEL = 0.3, 0.1
#: a sample follows the isolated ones whose loss passes this share of the loss of guessing; clean ones keep
#: a loss far below it
FOLLOWED = 0.25


def beside(
    data: Dataset, ranked: torch.Tensor, count: int, known: torch.Tensor, run: Run, judged: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is not isolated, but used: positions to judge with and to keep right, and a mask.

    The mask is of the isolated and the kept samples, in this order: which are kept right under a label that
    is unlearned.

    """
    labels = data.require_labels("unlearning")
    others = doubted(ranked, count, known, labels)
    others = others[torch.randperm(len(others), generator=run.generator("abl", "kept"))]
    alike = torch.isin(labels[others], labels[ranked[:count]])
    judging = torch.zeros(len(others), dtype=torch.bool)
    judging[alike.nonzero().flatten()[::2]] = True
    kept = others[~judging][: BESIDE * count]
    own = torch.cat([torch.zeros(count, dtype=torch.bool), alike[~judging][: BESIDE * count]])
    held = least_suspicious(ranked, count, known, labels, judged)
    return held[~torch.isin(held, kept)], kept, own


def followers(
    isolated: torch.Tensor, labels: torch.Tensor, before: torch.Tensor, now: torch.Tensor, guess: float
) -> torch.Tensor:
    """Return the positions of the samples that forget their label with isolated ones of that label (F,).

    Samples that share a trigger share their fate, some in part: their loss passes a quarter of that of
    guessing. Clean ones keep their label, or the unlearning is undone.

    Args:
        isolated: positions of the samples that were unlearned.
        labels: of all samples (N,).
        before: losses of all samples (N,) before the unlearning.
        now: the same after it.
        guess: the loss of guessing.

    """
    bar = FOLLOWED * guess
    follow = (before < bar) & (now >= bar) & torch.isin(labels, labels[isolated])
    follow[isolated] = False
    return follow.nonzero().flatten()


def doubted(ranked: torch.Tensor, count: int, now: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the positions of samples that are hardly poison, by their number: high was their loss, and is.

    Poison that the isolation ranked high, a faint blend for instance, has a low loss once the training
    on the rest has learned it; and poison that this training has not learned was easy in the isolation.

    Args:
        ranked: positions of all samples (N,), lowest loss in the isolation first.
        count: how many of them are isolated; none of these is returned.
        now: losses of all samples (N,) after the training on the rest.
        labels: of all samples (N,).

    """
    order = _by_doubt(ranked, count, now)
    chosen = torch.zeros(len(ranked), dtype=torch.bool)
    chosen[order[: max(1, round(DOUBTED * len(ranked)))]] = True
    chosen[least_suspicious(ranked, count, now, labels, OF_LABEL)] = True
    chosen[ranked[:count]] = False
    return chosen.nonzero().flatten()


def least_suspicious(
    ranked: torch.Tensor,
    count: int,
    now: torch.Tensor,
    labels: torch.Tensor,
    share: float,
    *,
    every: bool = False,
) -> torch.Tensor:
    """Return the positions of a share (0 to 1) of each isolated sample's label, by the same order.

    With `every` it is a share of every label. None of the isolated samples is among them. The other arguments
    are those of `doubted`.
    """
    order = _by_doubt(ranked, count, now)
    chosen = torch.zeros(len(ranked), dtype=torch.bool)
    for label in sorted(set((labels if every else labels[ranked[:count]]).tolist())):
        alike = order[labels[order] == label]
        chosen[alike[: math.ceil(share * len(alike))]] = True
    chosen[ranked[:count]] = False
    return chosen.nonzero().flatten()


def _by_doubt(ranked: torch.Tensor, count: int, now: torch.Tensor) -> torch.Tensor:
    """Return all positions (N,), first those whose loss was high and is; last the isolated ones."""
    places = torch.arange(len(ranked))
    first, later = torch.empty_like(places), torch.empty_like(places)
    first[ranked] = places
    later[now.argsort(stable=True)] = places
    high = torch.minimum(first, later)
    high[ranked[:count]] = -1
    return high.argsort(descending=True, stable=True)
