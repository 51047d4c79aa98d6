"""Pixel: invert two-sided changes of single pixels; a backdoor's target needs far fewer of them."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.errors import OptionError
from detrojan.findings import Unit
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import Rule, judged_by_size, smallest
from detrojan.judging.verdict import Judged
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.search.engine import search
from detrojan.search.forms import form_named
from detrojan.search.jobs import Job
from detrojan.search.plan import Found, Plan
from detrojan.triggers.aim import Aim

#: labels side by side: more would only take memory
AT_ONCE = 64
#: what the sizes count
CHANGED = Unit(
    name="pixels",
    one="pixel",
    many="pixels",
    meaning="how many pixels the trigger changes; one that is changed faintly counts for less than 1",
)


@dataclass(frozen=True, kw_only=True)
class Pixel(Scan):
    """Invert a trigger that adds to some pixels and takes from others, and flag labels that need few.

    For each label two maps p and n of values in [0, 1] are optimised, and images become clip(x + p - n, 0,
    1). To leave a pixel alone takes one number here. With a mask and a picture it takes two that must
    agree. The statistic is a smooth count of the pixels changed. The strongest channel of each pixel counts
    as tanh(5 * change), so a faint change counts for less than 1.

    A label is flagged if three things hold. So few pixels are unlikely among the other labels (a moderated
    t-test of the logarithm, corrected for all labels). They are few beside the usual number. The trigger
    works on held-out images.

    Departures from the paper: the maps are logistic functions of what is learned, which is tanh at another
    scale. The weight of the count follows the success at each step, which needs a fraction of the steps. A
    label has two random starts. No fixed bound on the number of pixels decides, since none fits every size
    of input.

    Reference: Tao et al., Better Trigger Inversion Optimization in Backdoor Scanning, CVPR 2022.

    Args:
        steps: updates of each label's maps; 1 or more.
        batch_size: images per update; 2 or more.
        restarts: random starts per label, of which the smallest trigger counts; 1 or more.
        goal: share of a batch that must reach the label for a trigger to count, in (0, 1].
        significance: p-value, corrected for all labels tested, below which a label is flagged; in (0, 1).
        ratio: a flagged trigger changes at most this share of the usual number of pixels; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        samples: images to use, half for the inversion, half held out; 20 or more.

    """

    name = "pixel"

    steps: int = 100
    batch_size: int = 16
    restarts: int = 2
    goal: float = 0.9
    significance: float = 0.02
    ratio: float = 0.4
    confirm: float = 0.75
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        self.plan()
        self.rule()
        if self.restarts < 1:
            raise OptionError(f"expected restarts of 1 or more, got {self.restarts}")

    def plan(self) -> Plan:
        """Return how the triggers are searched."""
        return Plan(form="pixel", steps=self.steps, batch_size=self.batch_size, goal=self.goal)

    def rule(self) -> Rule:
        """Return when a trigger is abnormally small."""
        return Rule(significance=self.significance, ratio=self.ratio, confirm=self.confirm)

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels against each other."""
        found, passes = self._invert(model, ready, run)
        counted = form_named("pixel").unit
        return judged_by_size(model, ready, found, self.rule(), unit=CHANGED, counted=counted, passes=passes)

    def _invert(self, model: Classifier, ready: Prepared, run: Run) -> tuple[dict[int, Found], int]:
        """Return each label's smallest trigger of all starts, and the passes it took."""
        best, passes = dict[int, Found](), 0
        for first in range(0, len(ready.tested), AT_ONCE):
            part = ready.tested[first : first + AT_ONCE]
            jobs = [Job(Aim(target=label), start) for label in part for start in range(self.restarts)]
            title = "pixels" if len(part) == len(ready.tested) else f"pixels, labels {part[0]} to {part[-1]}"
            searched = search(model, *ready.search, jobs, self.plan(), run=run, title=title)
            passes += searched.passes
            best |= smallest(searched.found)
        return best, passes
