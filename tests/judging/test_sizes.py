from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import PIXELS
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import Rule, judged_by_size, smallest
from detrojan.metrics.input_range import check_input_range
from detrojan.models.classifier import Classifier
from detrojan.search.jobs import Job
from detrojan.search.plan import Found
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger
from references import moderated_t_test

CLASSES = 8
SIZES = [20.0, 95.0, 110.0, 100.0, 120.0, 90.0, 105.0, 115.0]
RULE = Rule(significance=0.05, ratio=0.4, confirm=0.75)


class Columns(torch.nn.Module):
    """Answers the column that is brightest."""

    def forward(self, images):
        return 20 * images[:, 0].mean(1)


MODEL = Classifier(Columns(), (1, 4, CLASSES))


def column(label: int, opacity: float = 1.0) -> PatchTrigger:
    mask = torch.zeros(1, 4, CLASSES)
    mask[..., label] = opacity
    return PatchTrigger(mask, torch.ones(1, 4, CLASSES))


def one(label: int, size: float, *, works: bool = True, start: int = 0) -> Found:
    trigger = column(label) if works else column(label, 0.0)
    return Found(job=Job(Aim(target=label), start), trigger=trigger, size=size, steps=1)


def prepared() -> Prepared:
    truth = torch.arange(80) % CLASSES
    images = torch.zeros(80, 1, 4, CLASSES)
    images[torch.arange(80), 0, :, truth] = 0.5
    check = check_input_range(MODEL, Dataset(images, truth))
    return Prepared(
        images=images, truth=truth, answers=truth, how="labels", made_up=False, half=40,
        asked=list(range(CLASSES)), tested=list(range(CLASSES)), left_out=[],
        check=replace(check, best=check.stated, warnings=()), warnings=(), obstacle="",
        begun=time.monotonic(),
    )  # fmt: skip


def judged(found: dict[int, Found], rule: Rule = RULE, **more):
    return judged_by_size(MODEL, prepared(), found, rule, unit=PIXELS, counted="pixels", passes=7, **more)


def all_found(sizes: list[float] = SIZES) -> dict[int, Found]:
    return {label: one(label, size) for label, size in enumerate(sizes)}


def test_the_small_trigger_is_flagged_with_the_p_value_of_a_moderated_t_test_for_all_labels():
    made = judged(all_found())
    assert [f.label for f in made.findings if f.flagged] == [0]
    assert made.findings[0].p_value == pytest.approx(CLASSES * moderated_t_test(20.0, SIZES[1:]), rel=1e-6)
    assert (made.findings[0].size, made.findings[0].unit, made.findings[0].attack_success) == (
        20.0,
        PIXELS,
        1.0,
    )
    assert made.case.verdict()[0] == "backdoored"
    assert made.passes == 7


def test_one_that_fails_on_held_out_images_is_not_flagged_and_not_passed_over():
    made = judged(all_found() | {0: one(0, 20.0, works=False)})
    assert not any(f.flagged for f in made.findings)
    verdict, reason = made.case.verdict()
    assert verdict == "inconclusive"
    assert "label 0 needs an abnormally small trigger, which hardly works on held-out images" in reason


def test_a_significant_size_that_is_not_small_beside_the_usual_is_not_flagged():
    sizes = [60.0, 100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8]
    strict = Rule(significance=0.9, ratio=0.5, confirm=0.75)
    assert not any(f.flagged for f in judged(all_found(sizes), strict).findings)
    assert judged(all_found(sizes), replace(strict, ratio=0.7)).findings[0].flagged


def test_labels_put_aside_count_as_looks_and_have_no_figures():
    found = {label: entry for label, entry in all_found().items() if label < 6}
    made = judged(found, controls=range(1, 6))
    assert made.findings[7].size is None
    assert made.findings[0].p_value == pytest.approx(CLASSES * moderated_t_test(20.0, SIZES[1:6]), rel=1e-6)
    assert "2 of them by the screening alone" in made.case.looked


def test_silence_says_how_small_a_trigger_would_have_been_flagged():
    made = judged(all_found([85.0, *SIZES[1:]]))
    verdict, reason = made.case.verdict()
    limit = made.details["detectable"]
    assert verdict == "no evidence"
    assert f"{limit:.3g} pixels would have been one" in reason
    again = judged(all_found([0.98 * limit, *SIZES[1:]]))
    assert again.findings[0].flagged


def test_too_few_labels_and_too_few_triggers_are_inconclusive():
    few = judged({label: one(label, SIZES[label]) for label in range(4)})
    assert few.case.verdict()[0] == "inconclusive"
    none = judged({label: one(label, math.inf, works=False) for label in range(CLASSES)})
    verdict, reason = none.case.verdict()
    assert verdict == "inconclusive"
    assert "too few triggers were found" in reason


def test_of_several_starts_the_smallest_counts():
    found = {Job(Aim(target=1)): one(1, 50.0), Job(Aim(target=1), 1): one(1, 30.0, start=1)}
    assert smallest(found)[1].size == 30.0


@pytest.mark.parametrize("wrong", [{"significance": 0.0}, {"ratio": 0.0}, {"ratio": 1.1}, {"confirm": -0.1}])
def test_a_rule_out_of_its_range_is_refused(wrong):
    values = {"significance": 0.05, "ratio": 0.4, "confirm": 0.75} | wrong
    with pytest.raises(OptionError, match="expected significance in"):
        Rule(**values)
