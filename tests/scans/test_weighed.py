from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from detrojan.judging.evidence import Evidence
from detrojan.judging.policy import POLICY
from detrojan.scans.cascade import Cascade
from detrojan.scans.shortlist import Shortlist
from detrojan.scans.weighed import ALIKE, MOST_TARGETS, Weighed
from detrojan.search.jobs import Job
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger

#: the cascade's own
SIGNIFICANCE, RATIO, CONFIRM = 0.02, 0.4, 0.75


def entry(label: int, p_value: float, *, ratio: float = 0.2, size: float = 10.0) -> Evidence:
    sizes, ratios = (dict.fromkeys(("patch", "additive", "both"), value) for value in (size, ratio))
    return Evidence(
        job=Job(Aim(target=label)),
        sizes=sizes,
        ratios=ratios,
        p_value=p_value,
        by="both",
        index=5.0,
        found={},
    )


def weighed(entries: list[Evidence], *, many: bool = False, success: float = 1.0, tested=None) -> Weighed:
    trigger = PatchTrigger(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))

    class Given(Weighed):
        def evidence(self):
            return sorted(entries, key=lambda one: (one.p_value, one.ratio))

    labels = [one.job.target for one in entries]
    work = Given(Cascade(), None, SimpleNamespace(tested=labels if tested is None else tested))
    work.listed = Shortlist(order=labels) if many else None
    work._shown = {one.job: (trigger, "patch", success) for one in entries}
    return work


def labels(entries: list[Evidence]) -> list[int]:
    return sorted(one.job.target for one in entries)


@pytest.mark.parametrize(
    ("p_value", "ratio", "flagged"),
    [(0.019, 0.4, [3]), (0.02, 0.4, []), (0.019, 0.41, []), (1e-9, 0.1, [3])],
)
def test_a_target_is_significant_and_small(p_value, ratio, flagged):
    assert labels(weighed([entry(3, p_value, ratio=ratio), entry(4, 0.9, ratio=1.0)]).flagged()) == flagged


@pytest.mark.parametrize(("success", "flagged"), [(CONFIRM, [3]), (CONFIRM - 0.01, [])])
def test_its_trigger_works_on_held_out_images(success, flagged):
    assert labels(weighed([entry(3, 1e-4)], success=success).flagged()) == flagged


def test_the_k_th_target_may_have_k_times_the_p_value_where_it_is_about_as_small():
    near, far = 10.0 * ALIKE, 10.0 * ALIKE + 0.1
    first, second, third = 1e-4, 1.9 * SIGNIFICANCE, 2.9 * SIGNIFICANCE
    assert labels(weighed([entry(0, first), entry(1, second, size=near)]).flagged()) == [0, 1]
    assert labels(weighed([entry(0, first), entry(1, second, size=far)]).flagged()) == [0]
    assert labels(weighed([entry(0, first), entry(1, 2.1 * SIGNIFICANCE, size=near)]).flagged()) == [0]
    assert labels(weighed([entry(0, first), entry(1, second), entry(2, third)]).flagged()) == [0, 1, 2]
    assert labels(weighed([entry(0, 1.1 * SIGNIFICANCE), entry(1, second)]).flagged()) == []


@pytest.mark.parametrize(
    ("chances", "settled"),
    [
        ((0.2 * SIGNIFICANCE, 0.9), True),
        ((0.9, 1.0), True),
        ((0.3 * SIGNIFICANCE, 0.9), False),  # flagged, but not beyond doubt
        ((0.2 * SIGNIFICANCE, 0.4), False),  # another one may turn out to be one
        ((0.4, 1.0), False),
    ],
)
def test_more_controls_are_needed_only_where_something_is_in_doubt(chances, settled):
    evidence = [entry(label, chance, size=10.0 + 90 * label) for label, chance in enumerate(chances)]
    assert weighed(evidence, many=True).settled() == settled


def test_of_many_labels_too_many_strong_ones_are_a_crowd():
    crowd = [entry(label, 1e-4, size=10.0 + label) for label in range(MOST_TARGETS + 1)]
    assert labels(weighed(crowd, many=True).crowd()) == list(range(MOST_TARGETS + 1))
    assert weighed(crowd, many=True).flagged() == []
    assert weighed(crowd[:-1], many=True).crowd() == []
    assert len(weighed(crowd).flagged()) == MOST_TARGETS + 1, "few labels are all looked at with care"


def test_one_that_stands_out_of_a_crowd_is_a_target():
    crowd = [entry(label, 1e-3, size=100.0 + label) for label in range(MOST_TARGETS + 3)]
    assert labels(weighed([*crowd, entry(40, 1e-6, size=2.0)], many=True).flagged()) == [40]


def test_a_label_drawn_for_comparison_is_named_and_not_flagged():
    work = weighed([entry(0, 1e-4), entry(7, 1e-4)], tested=[0])
    assert labels(work.flagged()) == [0]
    assert work.small_controls() == [7]


def test_labels_that_are_compared_count_whether_they_were_asked_for_or_drawn():
    work = weighed([entry(0, 0.5), entry(1, 0.5)])
    work.controls = [1, 5, 6]
    assert work.compared == 4
    assert work.looks == 2


class Compass:
    """Takes these labels for natural ones, and notes what they are compared with."""

    def __init__(self, *ordinary: int) -> None:
        self.labels, self.usual = ordinary, []

    def ordinary(self, one, usual):
        self.usual = labels(usual)
        return one.job.target in self.labels


def with_compass(entries: list[Evidence], *ordinary: int, controls=()) -> Weighed:
    work = weighed(entries, many=bool(controls))
    work._natural, work.controls = Compass(*ordinary), list(controls)
    return work


USUAL = [entry(label, 1.0, ratio=1.0, size=100.0) for label in range(3, 9)]


def doubtful(label: int) -> Evidence:
    return entry(label, 0.005, ratio=0.5 * (POLICY.clear_ratio + RATIO))


def test_a_doubtful_label_that_is_reached_as_usual_ones_are_is_no_target_and_not_forgotten():
    work = with_compass([doubtful(1), *USUAL], 1)
    assert work.flagged() == []
    assert labels(work.natural_ones()) == [1]
    assert work._natural.usual == [3, 4, 5, 6, 7, 8]
    assert labels(with_compass([doubtful(1), *USUAL]).flagged()) == [1]


def test_a_clear_label_is_a_target_whatever_way_it_is_reached():
    sure = entry(1, 0.99 * POLICY.clear_chance, ratio=0.38)
    small = entry(0, 0.005, ratio=POLICY.clear_ratio)
    work = with_compass([small, sure, doubtful(2), *USUAL], 0, 1, 2)
    assert labels(work.flagged()) == [0, 1]
    assert labels(work.natural_ones()) == [2]


def test_a_natural_label_does_not_make_room_for_another_one():
    second = entry(2, 1.5 * SIGNIFICANCE)
    assert labels(with_compass([doubtful(1), second, *USUAL]).flagged()) == [1, 2]
    assert labels(with_compass([doubtful(1), second, *USUAL], 1).flagged()) == []


def test_of_many_labels_only_controls_show_how_features_move():
    work = with_compass([doubtful(1), *USUAL], 1, controls=(3, 4, 5))
    assert work.natural(doubtful(1))
    assert work._natural.usual == [3, 4, 5]


def test_the_usual_patch_is_the_middle_one():
    assert weighed([entry(label, 1.0, size=float(label)) for label in (1, 2, 9)]).usual_patch() == 2.0
    assert weighed([]).usual_patch() == float("inf")
