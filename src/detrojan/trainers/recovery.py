"""Which samples find a lost label again without being shown it: clean ones do, and poison does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import Augment
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: so many updates, at least, are made on samples that kept their label
UPDATES = 100
#: an unlearning may cost this share of the other samples; this share of what lost its label is clean then
BORNE, CLEAN = 0.01, 0.5
#: how often an unlearning that costs just what is borne is undone by chance, at most
ERROR = 0.05


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A short training on samples that kept their label, to see which others come back with them.

    What makes a clean sample one of its label is in other samples as well, so it comes back. Poison
    needs its trigger, and no sample shows it.

    Attributes:
        how: the training; its passes are as many as make 100 updates.
        augment: changes each batch's images, or None.

    """

    how: Fitting
    augment: Augment | None

    def answers(
        self,
        model: Classifier,
        data: Dataset,
        shown: torch.Tensor,
        *,
        run: Run,
        title: str,
        identity: Mapping[str, object],
    ) -> torch.Tensor:
        """Return which samples of `data` a copy of `model` answers right after that training (N,), bool.

        Args:
            model: as the unlearning left it; unchanged.
            data: labelled, (N, C, H, W).
            shown: positions of the samples that are trained on; with none of them nothing is trained.
            run: device, seed, progress, checkpoint.
            title: what the progress shows.
            identity: what tells the training apart.

        """
        copy = model.copy()
        if len(shown):
            batches = max(1, len(shown) // min(self.how.batch_size, len(shown)))
            how = replace(self.how, epochs=math.ceil(UPDATES / batches))
            part = data.select(shown)
            fit(copy, part, how, run=run, title=title, augment=self.augment, identity=identity)
        return answered(copy, data)


def answered(model: Classifier, data: Dataset) -> torch.Tensor:
    """Return which samples of labelled data a network answers right (N,), bool."""
    return model.all_logits(data.images).argmax(1) == data.require_labels("an accuracy")


def dear(before: torch.Tensor, now: torch.Tensor, again: torch.Tensor) -> tuple[float, str]:
    """Return which share of what lost its label found it again, and why an unlearning is undone.

    What finds its label again is clean. An unlearning costs those samples, less the ones that are right since
    then. It is undone where these are more than 1% of all beyond chance, and half of what lost its label was
    clean. The reason is empty where it is not undone.

    Args:
        before: which of the samples that are not isolated were answered right before it (M,), bool.
        now: which ones are after it.
        again: which ones are after the recovery.

    """
    lost = before & ~now
    count, found = int(lost.sum()), int((lost & again).sum())
    cost, share = found - int((now & ~before).sum()), found / max(1, count)
    if beyond_chance(cost, len(before), BORNE) and share >= CLEAN:
        return share, (
            f"it cost {100 * cost / len(before):.1f} points on all other samples: of {count:,} that lost "
            f"their label {share:.0%} found it again without being shown it, as clean ones do"
        )
    return share, ""


def beyond_chance(lost: int, judging: int, tolerance: float) -> bool:
    """Return whether so many lost samples are hardly chance.

    They are where an unlearning that takes each sample's label with the probability `tolerance` costs as many
    in less than 5% of all cases (binomial test).

    Args:
        lost: how many more of the judged samples are answered wrong than before; below 0 if fewer are.
        judging: how many samples judge.
        tolerance: which share of them may be lost, 0 to 1.

    """
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    return lost > 0 and float(special.bdtrc(lost - 1, judging, tolerance)) < ERROR
