"""Peaks: search by questions alone for patches that lead to one label far better than to the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from detrojan.errors import OptionError
from detrojan.findings import PIXELS, Criterion, Finding
from detrojan.judging.extremes import high_p_values
from detrojan.judging.outliers import anomaly_indices
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance
from detrojan.judging.sizes import FEWEST_LABELS
from detrojan.judging.verdict import Case, Judged, finding, high, labels_tested
from detrojan.metrics.attraction import attraction
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.triggers.patch import PatchTrigger

#: images that every patch is tried on while searching, and those that show how far it goes
TRIED, SHOWN = 12, 48
#: share of the budget for patches drawn at random, and images that no network was made for
DRAWN, STRANGE = 0.2, 1400
#: fewer trials of a label's own say nothing
FEWEST_STEPS = 20
#: log odds of a label are counted up to this
_MOST_ODDS = 30.0
WHAT = "peak of answers to small patches"


@dataclass
class _Patches:
    """One patch per label: where its upper left corner is (K, 2), and its colours (K, C, side, side)."""

    places: torch.Tensor
    colours: torch.Tensor

    def stamped(self, images: torch.Tensor) -> torch.Tensor:
        """Return each patch on each image, (patches * N, C, H, W)."""
        made = images.repeat(len(self.places), 1, 1, 1, 1)
        side = self.colours.shape[-1]
        for one, (top, left), colours in zip(made, self.places.tolist(), self.colours, strict=True):
            one[:, :, top : top + side, left : left + side] = colours
        return made.flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Peaks(Scan):
    """Ask only: search the patch that leads most images to each label, and compare how far each one goes.

    Patches of one size are drawn at random and tried on a few images. A model answers for all labels at
    once, so every label takes the best of them. From there each label's patch is changed a little at a
    time, and a change is kept where the label's log odds grow. What a label reaches on held-out images is
    its peak. A backdoor's target has a far higher peak than the others, which serve as controls. A flagged
    label's patch also has to work. The attractor probe is made too. A label that stands out by that probe
    alone, or whose patch hardly works, makes the verdict "inconclusive".

    It finds patches, and triggers that a patch can stand in for. A trigger that is spread over the image is
    not searched. Where the budget is too small for the number of labels, the verdict is "inconclusive".

    Reference: Guo et al., AEVA: Black-box Backdoor Detection Using Adversarial Extreme Value Analysis,
    ICLR 2022. It asks for labels only; the search and the statistic here are ours.

    Args:
        queries: images that the model is asked about at most, checks of its input aside; 5000 or more.
        side: side of the patches as a share of the image's shorter one, in (0, 0.5].
        significance: p-value, corrected for all labels, below which a label is flagged; in (0, 1).
        confirm: share of held-out images that a flagged patch must move, in [0, 1].
        samples: images to use, half for searching, half held out; 20 or more.

    """

    name = "peaks"
    needs_victims: ClassVar[bool] = False
    answers_only: ClassVar[bool] = True

    queries: int = 40000
    side: float = 0.1
    significance: float = 0.01
    confirm: float = 0.5
    samples: int = 400

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_significance(self.significance)
        if self.queries < 5000:
            raise OptionError(f"expected 5000 queries or more, got {self.queries}")
        if not (0 < self.side <= 0.5 and 0 <= self.confirm <= 1):
            raise OptionError(
                f"expected side in (0, 0.5] and confirm in [0, 1], got {self.side:g} and {self.confirm:g}"
            )

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge every label; the p-values are corrected for all of the network's, whatever is tested."""
        search = _Search(self, model, ready, run)
        strange = attraction(model, ready.images, run.generator("peaks", "strange"), count=STRANGE)
        spent = strange.images
        drawn, steps = self._plan(model.num_classes, spent)
        if steps < FEWEST_STEPS:
            return self._too_dear(ready, model.num_classes, spent)
        patches = search.drawn(drawn)
        search.climb(patches, steps)
        odds, success = search.reached(patches)
        chances = high_p_values(odds, "normal")
        pulled = high_p_values(strange.score, "normal")
        sure = (chances < self.significance) & (success >= self.confirm)
        flagged = [t for t in ready.tested if sure[t]]
        doubtful = (torch.minimum(chances, pulled) < self.significance) & ~sure
        suspects = [t for t in ready.tested if doubtful[t]]
        indices = (-anomaly_indices(odds)).clamp(min=0)
        triggers = {t: search.trigger(patches, t) for t in flagged}
        findings = tuple(
            finding(
                t,
                index=float(indices[t]),
                chance=float(chances[t]),
                size=float(search.side**2),
                unit=PIXELS,
                success=float(success[t]),
                flagged=t in flagged,
                trigger=triggers.get(t),
            )
            for t in ready.tested
        )
        return self._judged(
            ready,
            findings,
            model.num_classes,
            {
                "suspects": suspects,
                "queries": search.asked + spent,
                "steps": steps,
                "patch_side": search.side,
                "peaks": [round(float(value), 4) for value in odds],
                "attraction": [round(float(value), 6) for value in strange.share],
            },
        )

    def _plan(self, classes: int, spent: int) -> tuple[int, int]:
        """Return how many patches are drawn at random, and how often each label's own is changed."""
        drawn = max(1, int(self.queries * DRAWN) // TRIED)
        left = self.queries - spent - drawn * TRIED - classes * SHOWN
        return drawn, max(0, left) // (classes * TRIED)

    def _too_dear(self, ready: Prepared, classes: int, spent: int) -> Judged:
        least = (spent + classes * (SHOWN + TRIED * (FEWEST_STEPS + 1))) / (1 - DRAWN)
        needed = math.ceil(least / 1000) * 1000
        why = f"{classes} labels need {needed:,} queries or more, and {self.queries:,} are allowed"
        return self._judged(ready, tuple(finding(t) for t in ready.tested), classes, {"queries": spent}, why)

    def _judged(
        self,
        ready: Prepared,
        findings: Sequence[Finding],
        classes: int,
        details: dict[str, object],
        unfinished: str = "",
    ) -> Judged:
        targets = [entry.label for entry in findings if entry.flagged]
        chances = [entry.p_value for entry in findings if entry.flagged and entry.p_value is not None]
        few = f"with {classes} labels nothing tells what is usual: {FEWEST_LABELS} or more are needed"
        return Judged(
            findings=tuple(findings),
            case=Case(
                looked=f"{labels_tested(len(findings))}, {details['queries']:,} queries",
                doubtful=ready.check.doubtful,
                unfinished=unfinished,
                too_few=few if classes < FEWEST_LABELS else "",
                targets=targets,
                sign=high(WHAT),
                chance=min(chances, default=None),
                doubt=_doubt(details.get("suspects")),
                limits=("by answers alone: only triggers that a small patch can stand in for are searched",),
            ),
            criterion=Criterion(
                statistic=WHAT, direction="high", decides="p-value", significance=self.significance
            ),
            passes=0,
            details=dict(details),
        )


def _doubt(suspects: object) -> str:
    """Return why silence means nothing where labels stand out that no patch leads to well enough."""
    if not suspects or not isinstance(suspects, list):
        return ""
    return (
        f"no patch works well enough, but these labels stand out by a patch or by inputs that no network was "
        f"made for: {', '.join(map(str, suspects))}; that is no proof, so look closer with another method"
    )


@dataclass
class _Search:
    """The search for patches, and how many images were asked about."""

    method: Peaks
    model: Classifier
    ready: Prepared
    run: Run
    asked: int = 0
    side: int = field(init=False)

    def __post_init__(self) -> None:
        self.random = self.run.generator("peaks", "patches")
        self.shape = self.model.input_shape
        self.side = max(2, round(self.method.side * min(self.shape[1:])))
        self.images, self.truth = (part[:TRIED] for part in self.ready.search)

    def _odds(
        self, patches: _Patches, images: torch.Tensor, truth: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each patch's mean log odds of each label, and the share answered so, (patches, K) each.

        Images of the label itself are left out.
        """
        logits = self.model.all_logits(patches.stamped(images)).double()
        self.asked += len(logits)
        logits = logits.reshape(len(patches.places), len(images), -1)
        classes = logits.shape[2]
        own = torch.eye(classes, dtype=torch.bool)
        against = logits[:, :, None].expand(-1, -1, classes, -1).masked_fill(own, -torch.inf).logsumexp(3)
        odds = (logits - against).clamp(-_MOST_ODDS, _MOST_ODDS)
        others = (truth[:, None] != torch.arange(classes)).double()
        count = others.sum(0).clamp(min=1)
        won = torch.nn.functional.one_hot(logits.argmax(2), classes).double()
        return (odds * others).sum(1) / count, (won * others).sum(1) / count

    def _random(self, count: int) -> _Patches:
        """Return patches anywhere, of one colour or of a few blocks."""
        channels, height, width = self.shape
        rows = torch.randint(height - self.side + 1, (count,), generator=self.random)
        columns = torch.randint(width - self.side + 1, (count,), generator=self.random)
        colours = torch.empty(count, channels, self.side, self.side)
        for one in colours:
            one.copy_(self._blocks(int(torch.randint(1, 5, (1,), generator=self.random))))
        return _Patches(torch.stack([rows, columns], 1), colours)

    def _blocks(self, cells: int) -> torch.Tensor:
        """Return a patch (C, side, side) of cells x cells blocks, black or white per channel."""
        made = torch.randint(2, (1, self.shape[0], cells, cells), generator=self.random).float()
        return torch.nn.functional.interpolate(made, (self.side, self.side))[0]

    def drawn(self, count: int) -> _Patches:
        """Return for each label the best of many patches drawn at random."""
        patches = self._random(count)
        self.best = torch.full((self.model.num_classes,), -torch.inf, dtype=torch.float64)
        chosen = torch.zeros(self.model.num_classes, dtype=torch.int64)
        with self.run.progress.task("patches at random", count) as task:
            for start in range(0, count, 32):
                part = _Patches(patches.places[start : start + 32], patches.colours[start : start + 32])
                odds, _ = self._odds(part, self.images, self.truth)
                found = odds.max(0)
                better = found.values > self.best
                self.best = torch.where(better, found.values, self.best)
                chosen = torch.where(better, found.indices + start, chosen)
                task.advance(len(part.places))
        return _Patches(patches.places[chosen].clone(), patches.colours[chosen].clone())

    def climb(self, patches: _Patches, steps: int) -> None:
        """Change each label's patch a little at a time, in place, and keep what leads more images to it.

        A change that helps another label more than its own best is taken over there: all labels share
        what was asked.
        """
        with self.run.progress.task("a patch for each label", steps) as task:
            for _ in range(steps):
                tried = self._changed(patches)
                odds, _ = self._odds(tried, self.images, self.truth)
                found = odds.max(0)
                better = found.values > self.best
                self.best = torch.where(better, found.values, self.best)
                patches.places[better] = tried.places[found.indices[better]]
                patches.colours[better] = tried.colours[found.indices[better]]
                task.advance()

    def _changed(self, patches: _Patches) -> _Patches:
        """Return each patch moved a little, put anywhere, or with another colour in a part of it."""
        places, colours = patches.places.clone(), patches.colours.clone()
        limits = torch.tensor(self.shape[1:]) - self.side
        for label in range(len(places)):
            kind = int(torch.randint(4, (1,), generator=self.random))
            if kind == 3:
                places[label] = (torch.rand(2, generator=self.random) * (limits + 1)).long()
                continue
            if kind == 2:
                places[label] += torch.randint(-2, 3, (2,), generator=self.random)
                continue
            size = int(torch.randint(1, self.side + 1, (1,), generator=self.random))
            top, left = torch.randint(self.side - size + 1, (2,), generator=self.random).tolist()
            area = colours[label, :, top : top + size, left : left + size]
            if kind == 0:
                area.copy_(torch.randint(2, (self.shape[0], 1, 1), generator=self.random).expand_as(area))
            else:
                channel = int(torch.randint(self.shape[0], (1,), generator=self.random))
                area[channel] = 1 - area[channel]
        return _Patches(places.clamp(min=0).minimum(limits), colours)

    def reached(self, patches: _Patches) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what each label's patch reaches on held-out images: mean log odds and success (K,)."""
        images, truth = (part[:SHOWN] for part in self.ready.held_out)
        odds, success = self._odds(patches, images, truth)
        return odds.diagonal().clone(), success.diagonal().clone()

    def trigger(self, patches: _Patches, label: int) -> PatchTrigger:
        """Return a label's patch as a trigger."""
        mask, pattern = torch.zeros(self.shape[1:]), torch.zeros(self.shape)
        top, left = patches.places[label].tolist()
        area = (slice(top, top + self.side), slice(left, left + self.side))
        mask[area] = 1.0
        pattern[:, *area] = patches.colours[label]
        return PatchTrigger(mask, pattern)
