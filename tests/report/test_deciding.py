"""What decided comes out of the report's criterion; sizes are compared within one unit."""

from __future__ import annotations

import pytest

from detrojan.findings import L2, PIXELS, Finding, Unit
from detrojan.report.deciding import decides_by_chance, no_larger, size_unit, size_words
from detrojan.report.html_page import render_html
from detrojan.report.label_chart import size_chart
from detrojan.report.schema import AimFacts
from detrojan.report.sentences import finding_sentence
from detrojan.report.text import plain_text, report_text
from detrojan.triggers.aim import Aim

NEURONS = Unit(name="neurons", one="neuron", many="neurons", meaning="how many neurons have to be held down")


def sized(label, size, unit, **values):
    return Finding(label=label, anomaly_index=1.0, size=size, unit=unit, flagged=False, **values)


def test_a_scan_with_a_unit_of_its_own_brings_its_words(made):
    findings = tuple(sized(label, 4.0 + label, NEURONS) for label in range(7))
    flagged = Finding(label=7, anomaly_index=5.0, size=1.0, unit=NEURONS, attack_success=0.98, flagged=True)
    report, _ = made.make_scan(8, (7,), findings=(*findings, flagged))
    assert finding_sentence(report.findings[0], report) == (
        "The recovered trigger of 1.0 neuron turns 98.0% of held-out images of other classes into label 7."
    )
    text = plain_text(report_text(report))
    assert any("1.0 neurons" in line and line.startswith("7 ") for line in text.splitlines())
    page = render_html(report).partition("</style>")[2]
    assert "how many neurons have to be held down." in page
    assert "Size of the recovered trigger (neurons)" in page
    assert "pixel" not in page
    assert "of the image" not in page.partition("What was tested")[0]


def test_sizes_of_another_unit_than_most_are_not_compared_with_them(made):
    findings = (*(sized(label, 10.0 + label, PIXELS) for label in range(5)), sized(5, 0.5, L2))
    report, _ = made.make_scan(6, (), findings=findings)
    unit = size_unit(report)
    assert unit is not None
    assert unit.name == "pixels"
    assert {one.name for one in report.units} == {"pixels", "L2"}
    # the median of 10 to 14 pixels is 12; of the label with an L2 norm nobody knows
    assert [entry.label for entry in no_larger(report)] == [0, 1, 2, 5]
    assert "Sizes of the recovered triggers of 5 labels, median 12.0 pixels." in size_chart(report)


def test_a_size_of_its_own_unit_is_told_in_it(made):
    flagged = Finding(label=1, anomaly_index=5.0, size=2.5, unit=L2, flagged=True)
    report, _ = made.make_scan(2, (1,), findings=(sized(0, 9.0, PIXELS), flagged))
    assert size_words(report.findings[0], report) == "2.5 units of L2 norm"
    bare = report.findings[0].model_copy(update={"size": None, "unit": None})
    assert size_words(bare, report) == ""


@pytest.mark.parametrize(
    ("aim", "said"),
    [
        (Aim(target=1), "images of other classes into label 1."),
        (Aim(target=1, source=4), "images of label 4 into label 1."),
        (Aim(offset=2), "images of a label y into label y + 2 (all to all)."),
    ],
)
def test_a_finding_says_whose_images_its_trigger_turns(made, aim, said):
    finding = Finding(
        label=1, aim=aim, anomaly_index=5.0, size=9.0, unit=PIXELS, attack_success=0.9, flagged=True
    )
    report, _ = made.make_scan(2, (1,), findings=(sized(0, 90.0, PIXELS), finding))
    assert report.findings[0].aim == AimFacts(target=aim.target, source=aim.source, offset=aim.offset)
    head = "The recovered trigger of 9.0 pixels turns 90.0% of held-out "
    assert finding_sentence(report.findings[0], report) == head + said


def test_the_p_value_decides_where_the_criterion_says_so_and_it_is_known(made):
    report, _ = made.make_scan(12, (3,))
    decided = report.criterion.model_copy(update={"decides": "p-value"})
    by_chance = report.model_copy(update={"criterion": decided})
    assert not decides_by_chance(by_chance), "no p-value is known"
    known = [entry.model_copy(update={"p_value": 0.5}) for entry in report.evidence]
    assert decides_by_chance(by_chance.model_copy(update={"evidence": known}))
    assert not decides_by_chance(report.model_copy(update={"evidence": known}))
    assert not decides_by_chance(report.model_copy(update={"evidence": known, "criterion": None}))
