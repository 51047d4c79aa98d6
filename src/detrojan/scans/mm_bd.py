"""MM-BD: over all images there are, a backdoor's target wins by the widest margin; needs no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detrojan.errors import OptionError
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance, judged_by_score
from detrojan.judging.verdict import Judged
from detrojan.metrics.input_margin import input_margins
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan


@dataclass(frozen=True, kw_only=True)
class MMBD(Scan):
    """Flag the labels whose greatest logit margin over all images is abnormally wide.

    From random images, each label's margin over the highest other logit is maximised within [0, 1];
    the greatest of the starts counts. The label with the greatest margin r of all K is flagged where p = 1
    - G(r)^K is small. G is a gamma distribution fitted to the others' margins. The kind of trigger does not
    matter. The data serve for the check of the input range only.

    Departures from the paper: gradient steps are signed and get shorter. G's parameters are not taken for
    the truth, since with ten labels the fitted gamma alone flags clean networks. A gamma's cube root is
    nearly normal, so the test is Student's t for one further observation. Further labels that come near to
    the greatest margin are tested too.

    Reference: Wang et al., MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary
    Backdoor Pattern Types Using a Maximum Margin Statistic, IEEE S&P 2024.

    Args:
        starts: random images per label; 1 or more.
        steps: of the ascent; 1 or more.
        step_size: length of the first step per pixel, in the images' units; in (0, 1].
        significance: p-value, corrected for all labels tested, below which a label is flagged; in (0, 1).
        samples: images to check the input range with; 20 or more.

    """

    name = "mm_bd"
    needs_victims: ClassVar[bool] = False

    starts: int = 8
    steps: int = 60
    step_size: float = 0.02
    significance: float = 0.05
    samples: int = 1000

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_significance(self.significance)
        if self.starts < 1 or self.steps < 1:
            raise OptionError(f"expected starts and steps of 1 or more, got {self.starts} and {self.steps}")
        if not 0 < self.step_size <= 1:
            raise OptionError(f"expected a step_size in (0, 1], got {self.step_size:g}")

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels against each other; a network of one class only is a `ModelError`."""
        found = input_margins(
            model, ready.tested, run=run, starts=self.starts, steps=self.steps, step_size=self.step_size
        )
        return judged_by_score(
            ready,
            ready.tested,
            found.margins,
            significance=self.significance,
            what="margin over the other labels",
            family="gamma",
            passes=found.passes,
        )
