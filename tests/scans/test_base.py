"""What the base does for every scan: it prepares, refuses, and makes the result of what was judged."""

from __future__ import annotations

from typing import ClassVar

import pytest

from detrojan import catalog
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import PIXELS, Criterion, Finding
from detrojan.judging.verdict import SMALL, Case, Judged, finding, labels_tested
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.triggers.aim import Aim
from twins import CLASSES, TARGET

CRITERION = Criterion(statistic="number of the label", direction="high", decides="index", threshold=4.0)


class Numbered(Scan):
    """Holds the labels above 4 for targets, and remembers what it was given."""

    name = "numbered"
    seen: ClassVar[list] = []

    def judge(self, model, ready, run):
        self.seen.append(ready)
        targets = [label for label in ready.tested if label > 4]
        return Judged(
            findings=tuple(finding(one, index=float(one), flagged=one in targets) for one in ready.tested),
            case=Case(looked=labels_tested(len(ready.tested)), doubtful=False, targets=targets, sign=SMALL),
            criterion=CRITERION,
            passes=7,
            warnings=("made up",),
            details={"images": 3, "own": True},
        )


class NeedsNone(Numbered):
    """Needs no images to win over."""

    name = "needs_none"
    needs_victims: ClassVar[bool] = False


def test_the_result_is_made_of_what_was_judged_and_prepared(twins):
    result = Numbered(samples=100).scan(twins.clean, twins.test, run=Run(), labels=[5, 1])
    assert (result.verdict, result.targets) == ("backdoored", [5])
    assert result.reason == "label 5 needs an abnormally small trigger (2 labels tested)"
    assert (result.passes, result.images, result.criterion) == (7, 100, CRITERION)
    assert result.warnings == ("made up",)
    assert result.details["held_out"] == 50
    assert result.details["not_tested"] == []
    assert result.details["answers"].startswith("labels of the data")
    assert (result.details["images"], result.details["own"]) == (3, True), "the scan's own word counts"
    assert result.seconds > 0


def test_few_images_are_used_as_they_are(twins):
    few = twins.test.select(slice(0, 40))
    assert Numbered().scan(twins.clean, few, run=Run()).images == 40
    with pytest.raises(DataError, match="expected 20 images or more, got 19"):
        Numbered().scan(twins.clean, twins.test.select(slice(0, 19)), run=Run())
    with pytest.raises(OptionError, match="expected 20 samples or more, got 19"):
        Numbered(samples=19)


def test_where_nothing_can_be_tested_the_scan_is_not_asked(twins):
    one_class = twins.test.select(twins.test.labels == TARGET)
    asked = len(Numbered.seen)
    result = Numbered().scan(twins.backdoored, one_class, run=Run())
    assert len(Numbered.seen) == asked
    assert (result.verdict, result.findings, result.passes) == ("inconclusive", (), 0)
    assert f"the network gives label {TARGET} for each of" in result.reason
    assert result.criterion is None
    assert result.details == {"not_tested": list(range(CLASSES))}


def test_only_a_scan_that_needs_victims_leaves_labels_out(twins):
    labels = twins.test.labels
    mostly = twins.test.select(((labels == TARGET) | (labels == 0)).nonzero().flatten())
    order = (mostly.labels == TARGET).int().argsort(descending=True, stable=True)
    few = mostly.select(order[: int((mostly.labels == TARGET).sum()) + 5])
    strict = Numbered().scan(twins.clean, few, run=Run())
    assert TARGET in strict.details["not_tested"]
    assert any(f"label {TARGET} was not tested" in text for text in strict.warnings)
    assert len(NeedsNone().scan(twins.clean, few, run=Run()).findings) == CLASSES


def test_labels_beyond_the_classes_are_refused(twins):
    with pytest.raises(LabelError, match=f"expected labels of 0 to {CLASSES - 1}, got {CLASSES}"):
        Numbered().scan(twins.clean, twins.test, run=Run(), labels=[CLASSES])


def test_a_finding_has_the_usual_aim_and_no_size_without_a_unit():
    plain = Finding(label=3, flagged=False)
    assert plain.aim == Aim(target=3)
    assert Finding(label=3, flagged=True, aim=Aim(offset=1)).aim == Aim(offset=1)
    assert Finding(label=3, flagged=True, size=2.0, unit=PIXELS).unit is PIXELS
    with pytest.raises(OptionError, match="expected a unit for a size of 2, got none"):
        Finding(label=3, flagged=True, size=2.0)


def test_no_scan_writes_its_own_way_up():
    for scan in catalog.methods("scans").values():
        assert scan.scan is Scan.scan
