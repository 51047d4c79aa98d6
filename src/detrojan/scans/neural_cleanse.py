"""Neural Cleanse: invert a trigger for every label; an infected label needs a far smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import torch

from detrojan.errors import OptionError
from detrojan.findings import PIXELS, ROBUST, SHARE_OF_MEDIAN, Criterion, Finding, Level
from detrojan.judging.outliers import Statistic, anomaly_indices, median, size_p_values
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import FEWEST_LABELS, STATISTIC, Rule
from detrojan.judging.verdict import SMALL, Case, Judged, finding, labels_tested
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.search.inversion import invert
from detrojan.search.schedule import Inversion, Inverted, Schedule


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Scan):
    """Invert a minimal trigger for every label and flag the labels whose trigger is abnormally small.

    The anomaly index of a label is the distance of its mask's L1 from the median, over
    1.4826 * MAD. Only labels below the median are flagged, above an index of 2.

    Departures from the paper: the budget per label is smaller by default (`Schedule` has the reference's).
    A label has two random starts, since a start that ends in a poor mask hides a backdoor. A t-test of the
    L1's logarithm against the other labels' counts as well, since with widely varying masks the index can
    hardly reach 2. A flagged trigger must also work on held-out images, and be small beside the usual one.
    With a handful of labels the MAD alone would flag clean networks too.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019.

    Args:
        steps: the most optimisation steps per label; 1 or more (the reference: 1000).
        mini_batches: mini-batches per step; 1 or more (the reference: 31).
        batch_size: images per mini-batch; 2 or more.
        learning_rate: of Adam; above 0.
        initial_cost: weight of the mask's L1 once the attack works; above 0.
        attack_threshold: attack success at which a mask counts, in (0, 1].
        patience: steps in a row after which the weight of the L1 changes; 1 or more.
        early_stop: steps without a smaller mask after which a label is done; 1 or more.
        restarts: random starts per label, of which the smallest mask counts; 1 or more.
        statistic: "mad", or "median" for the CSAW report's deviation over the median.
        threshold: anomaly index above which a label is flagged; above 0 (for the statistic
            "median", whose index never exceeds 1, the ratio rule alone decides at 2 and above).
        significance: p-value, corrected for all labels tested, below which a label is flagged too;
            in (0, 1).
        ratio: a flagged mask is at most this share of the median mask; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        samples: images to use, half for the inversion, half held out; 20 or more.

    """

    name = "neural_cleanse"

    steps: int = 100
    mini_batches: int = 4
    batch_size: int = 32
    learning_rate: float = 0.1
    initial_cost: float = 1e-3
    attack_threshold: float = 0.99
    patience: int = 5
    early_stop: int = 25
    restarts: int = 2
    statistic: Statistic = "mad"
    threshold: float = 2.0
    significance: float = 0.05
    ratio: float = 0.4
    confirm: float = 0.75
    samples: int = 1000

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        self.schedule()
        if self.restarts < 1:
            raise OptionError(f"expected restarts of 1 or more, got {self.restarts}")
        Rule(significance=self.significance, ratio=self.ratio, confirm=self.confirm)
        if self.threshold <= 0:
            raise OptionError(f"expected threshold above 0, got {self.threshold:g}")
        if self.statistic not in get_args(Statistic):
            raise OptionError(f"expected the statistic mad or median, got {self.statistic!r}")

    def schedule(self) -> Schedule:
        """Return how each label's trigger is optimised."""
        return Schedule(
            steps=self.steps,
            mini_batches=self.mini_batches,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            initial_cost=self.initial_cost,
            threshold=self.attack_threshold,
            patience=self.patience,
            early_stop=self.early_stop,
        )

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels against each other."""
        inversion = self._invert(model, *ready.search, ready.tested, run)
        rest, rest_truth = ready.held_out
        success = [
            attack_success(model, item.trigger, rest, rest_truth, item.label) for item in inversion.inverted
        ]
        findings = self.compare(inversion.inverted, success)
        return Judged(
            findings=findings,
            case=self._case(findings, doubtful=ready.check.doubtful),
            criterion=self._criterion(findings),
            passes=inversion.passes,
            details={
                "statistic": self.statistic,
                "threshold": self.threshold,
                "median_l1": median(torch.tensor([item.mask_l1 for item in inversion.inverted])),
                "not_converged": [i.label for i in inversion.inverted if not i.converged],
            },
        )

    def _invert(
        self, model: Classifier, images: torch.Tensor, truth: torch.Tensor, tested: list[int], run: Run
    ) -> Inversion:
        """Invert every label from several random starts and keep the smallest mask that works."""
        best: dict[int, Inverted] = {}
        passes = 0
        job = partial(_inverted, model, images, truth, tested, self.schedule())
        starts = [_Start(number, self.restarts) for number in range(self.restarts)]
        for found in run.map(job, starts, title="scan"):
            passes += found.passes
            for item in found.inverted:
                known = best.get(item.label)
                if known is None or (not item.converged, item.mask_l1) < (not known.converged, known.mask_l1):
                    best[item.label] = item
        return Inversion(inverted=tuple(best[label] for label in tested), passes=passes)

    def compare(self, inverted: Sequence[Inverted], success: Sequence[float]) -> tuple[Finding, ...]:
        """Return a finding per label from the recovered triggers and their held-out success."""
        sizes = torch.tensor([item.mask_l1 for item in inverted])
        indices = anomaly_indices(sizes, self.statistic).tolist()
        middle = median(sizes)
        chances = size_p_values(sizes, sizes > self.ratio * middle).tolist()
        findings = []
        for item, index, chance, works in zip(inverted, indices, chances, success, strict=True):
            small = item.mask_l1 <= self.ratio * middle
            odd = index > self.threshold or chance < self.significance
            outlying = odd if self.statistic == "mad" else small
            flagged = item.converged and outlying and small and works >= self.confirm
            findings.append(
                finding(
                    item.label,
                    index=abs(index),
                    chance=chance,
                    size=item.mask_l1,
                    unit=PIXELS,
                    success=works,
                    flagged=flagged and len(inverted) >= FEWEST_LABELS,
                    confidence=_confidence(middle / max(item.mask_l1, 1e-9)),
                    trigger=item.trigger,
                )
            )
        return tuple(findings)

    def _criterion(self, findings: Sequence[Finding]) -> Criterion:
        """Return what decided: the p-value only where it flagged a label that the index did not."""
        if self.statistic == "median":  # its index says the same as the ratio
            return Criterion(
                statistic=STATISTIC,
                direction="low",
                decides="index",
                unit=SHARE_OF_MEDIAN,
                threshold=1.0 - self.ratio,
                ratio=self.ratio,
                confirm=self.confirm,
            )
        by_chance = any(one.flagged and (one.anomaly_index or 0.0) <= self.threshold for one in findings)
        return Criterion(
            statistic=STATISTIC,
            direction="low",
            decides="p-value" if by_chance else "index",
            unit=ROBUST,
            threshold=self.threshold,
            significance=self.significance,
            ratio=self.ratio,
            confirm=self.confirm,
        )

    def _case(self, findings: Sequence[Finding], *, doubtful: bool) -> Case:
        """Return what the verdict is made of."""
        tested = len(findings)
        weak = sum((finding.attack_success or 0.0) < 0.5 for finding in findings)
        return Case(
            looked=labels_tested(tested),
            doubtful=doubtful,
            too_few=f"the anomaly index needs {FEWEST_LABELS} or more to say what is usual"
            if tested < FEWEST_LABELS
            else "",
            targets=[finding.label for finding in findings if finding.flagged],
            sign=SMALL,
            doubt=f"no working trigger was found for {weak} of {tested} labels: a larger budget is needed"
            if weak > tested / 2
            else "",
        )


@dataclass(frozen=True)
class _Start:
    """One of the random starts that every label is inverted from."""

    number: int
    of: int

    def __str__(self) -> str:
        """Return what the progress shows."""
        return "scan" if self.of == 1 else f"scan, start {self.number + 1} of {self.of}"


def _inverted(
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    tested: list[int],
    schedule: Schedule,
    run: Run,
    start: _Start,
) -> Inversion:
    """Invert every label from one start."""
    here = run if start.number == 0 else run.within("restart", start.number)
    return invert(model, images, truth, tested, schedule, run=here, title=str(start))


def _confidence(times: float) -> Level:
    """Return how sure a flagged label is whose mask is so many times smaller than the usual one."""
    return "high" if times >= 3 else "medium" if times >= 2 else "low"


def quick(scan: NeuralCleanse) -> NeuralCleanse:
    """Return a version of `scan` with a third of its budget, for re-scans after a repair."""
    return replace(scan, steps=max(1, scan.steps // 3))
