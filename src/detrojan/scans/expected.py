"""What a cascade will cost: passes by stage, before it begins, and how they fit into a budget."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.judging.policy import POLICY
from detrojan.scans.probes import HASTY_IMAGES, HASTY_SECOND_LOOK, IMAGES
from detrojan.scans.settings import Settings
from detrojan.search.transforms import TRANSFORMS
from detrojan.search.windows import FIRST_LOOK, ONE_IN, SECOND_LOOK
from detrojan.words import duration

#: windows per side that a label's search begins with
GRID = 4
#: passes for a label in the probes: three steps on six images, six on eight for the best ones
PROBES = 3 * IMAGES + POLICY.second_look * POLICY.faint_steps * POLICY.faint_images
HASTY_PROBES = 3 * HASTY_IMAGES + HASTY_SECOND_LOOK * POLICY.faint_steps * POLICY.faint_images
#: after so many updates of few labels' patches it is looked whether that decides it
FIRST_LOOKS = (32, 48, 64)
#: fewer labels than these are no comparison, even where time is short
LEAST_CANDIDATES, LEAST_CONTROLS = 4, 8


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The passes of one sample, forward and backward, that a scan is expected to need.

    Attributes:
        decided: where some labels stand out at once.
        silent: where none does, so that pairs of labels are looked at too, and none of these stands out.
        labels: labels that are searched, beside each other.
        each: passes for each of them.

    """

    decided: int
    silent: int
    labels: int
    each: int

    def seconds(self, rate: float) -> tuple[float, float]:
        """Return both as seconds, at a rate of passes a second."""
        return self.decided / rate, self.silent / rate


def announced(soon: float, late: float, budget: float) -> str:
    """Return how long a scan will take, for the progress.

    Args:
        soon: seconds where some labels stand out at once.
        late: seconds where none does.
        budget: seconds that it may take; 0 for no limit.

    """
    silent = f", {duration(late)} if nothing is found" if late > soon else ""
    if not budget:
        return f"scan, about {duration(soon)}{silent}"
    if soon > budget:
        return f"scan, {duration(budget)} of the {duration(soon)} that it would take"
    return f"scan, about {duration(soon)}{silent}, at most {duration(budget)}"


def first_controls(count: int) -> int:
    """Return how many of so many controls are searched at first, beside the candidates of many labels."""
    return max(LEAST_CONTROLS, count // 2)


def windows_cost(grid: int) -> int:
    """Return the passes that looking at all windows of one label takes."""
    first = grid * grid * FIRST_LOOK[0] * FIRST_LOOK[1]
    return first + max(1, grid * grid // ONE_IN) * SECOND_LOOK[0] * SECOND_LOOK[1]


def expected(
    method: Settings,
    looks: int,
    classes: int,
    *,
    few: bool,
    ranked: bool,
    probes: float = PROBES,
    compared: tuple[int, int] | None = None,
) -> Expected:
    """Return what a scan is expected to need.

    Args:
        method: the cascade.
        looks: labels to test.
        classes: labels of the network.
        few: whether every label has several starts.
        ranked: whether the labels are ranked first, and only the most suspicious searched.
        probes: passes for each label in the probes.
        compared: candidates and controls of many labels, where time allows fewer than the method's.

    """
    candidates, controls = compared or (method.candidates, method.controls)
    labels = candidates + controls if ranked else max(looks, min(classes, controls))
    # of few labels hardly any is searched from its windows
    local = windows_cost(GRID) + (0 if few else method.plan("window", many=ranked).cost)
    additive = method.plan("additive").cost
    base = additive
    if few or ranked:
        base += method.plan("patch", many=ranked).cost
    patch = method.plan("patch")
    first = min(FIRST_LOOKS[0], patch.steps) * patch.batch_size
    whole = (round(probes * looks) if ranked else 0) + labels * (base + local)
    if ranked:  # patches for half of the candidates; perhaps for half of the controls only
        whole -= candidates // 2 * (base - additive + local)
    spared = (controls - first_controls(controls)) * (base + local) if ranked else 0
    pairs = 0
    if looks == classes and not ranked:
        pairs += len(TRANSFORMS) * looks * POLICY.transform_steps * POLICY.transform_batch
        pairs += min(POLICY.most_shifts, classes - 1) * windows_cost(GRID)
        if classes <= POLICY.most_pair_labels:
            pairs += classes * (classes - 1) * POLICY.pair_screen_steps * POLICY.pair_screen_images
    return Expected(
        decided=labels * (additive + first) + patch.cost if few else whole - spared,
        silent=whole + pairs,
        labels=labels,
        each=base + local,
    )


def within(method: Settings, looks: int, passes: float, probes: float = PROBES) -> tuple[int, int]:
    """Return how many candidates and controls of many labels fit into so many passes.

    Args:
        method: the cascade.
        looks: labels to test.
        passes: that there is time for.
        probes: passes for each label in the probes.

    """
    each = expected(method, looks, looks, few=False, ranked=True).each
    affordable = int(max(0.0, passes - probes * looks) / each)
    if affordable >= method.candidates + method.controls:
        return method.candidates, method.controls
    return (
        max(LEAST_CANDIDATES, min(method.candidates, affordable // 3)),
        max(LEAST_CONTROLS, min(method.controls, affordable * 2 // 3)),
    )
