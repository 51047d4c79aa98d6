from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.catalog import methods
from detrojan.data.dataset import Dataset
from detrojan.guards.auto import Auto
from detrojan.guards.strip import Strip
from detrojan.metrics.detection import Detection
from detrojan.report.guard_page import Measured, guard_page
from detrojan.report.pictures import trigger_pictures
from detrojan.report.report import run_facts
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

FOUND = Detection(frr=0.02, far=0.3, auroc=0.9, clean=50, bad=40)


@pytest.fixture
def guard(made):
    images = torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    guard = Strip(copies=10, frr=0.05).calibrate(made.make_model(10), Dataset(images), run=Run())
    fit = replace(guard.fit, used="normal", complaint="", rejected=0.04, quantile=0.123, distance=0.02)
    return replace(guard, fit=fit, clean_scores=-torch.linspace(0.1, 1, 900, dtype=torch.float64))


def page(guard, made, **values):
    facts = run_facts(Run(), [guard.method], made.STARTED, None, hyper_parameters={})
    return guard_page(guard, {"clean": guard.clean_scores}, record=[], facts=facts, **values)


def test_the_boundary_is_judged_by_the_clean_inputs_that_it_rejects(guard, made):
    text = page(guard, made)
    assert "4.00% of the clean inputs lie at or below it, 5.00% were asked for" in text
    assert "by counting it would be 0.123 bits" in text
    assert "The curve describes the clean entropies elsewhere too (largest gap 2.0 points)" in text
    assert "holds at the boundary" in text


def test_a_curve_that_is_not_theirs_is_not_called_good(guard, made):
    text = page(replace(guard, fit=replace(guard.fit, distance=0.084)), made)
    assert "Elsewhere the curve does not describe the clean entropies: the largest gap is 8.4 points" in text
    assert "chance makes up to 3.0" in text


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"complaint": "it is odd", "used": "quantile"},
            "fit is poor: it is odd. The boundary is by counting",
        ),
        ({"used": "quantile"}, "The boundary is by counting: where 5.00% of the clean inputs lie"),
    ],
)
def test_which_boundary_is_used_is_said(guard, made, values, says):
    assert says in page(replace(guard, fit=replace(guard.fit, **values)), made)


def test_a_measurement_says_what_is_left_of_the_attack_and_shows_the_trigger(guard, made):
    drawn = trigger_pictures(PatchTrigger.corner((3, 32, 32), size=4), made.make_data().images)
    measured = Measured(detection=FOUND, target=3, success=0.981, success_guarded=0.281)
    text = page(guard, made, measured=measured, pictures=drawn)
    assert "Attack success 98.1%, with the guard 28.1%." in text
    assert "The trigger that was stamped for label 3" in text
    assert text.count("data:image/png") == 2 + 6
    untold = page(guard, made, measured=Measured(detection=FOUND), pictures=drawn)
    assert (
        "The guard catches 70.0% of 40 stamped inputs, and calls 2.0% of 50 clean ones backdoored." in untold
    )
    assert "Attack success" not in untold
    assert "The trigger that was stamped</h3>" in untold


def test_scores_that_are_no_finite_number_are_not_drawn(guard, made):
    scores = {"clean": guard.clean_scores, "stamped": torch.tensor([float("nan"), float("-inf")])}
    facts = run_facts(Run(), [guard.method], made.STARTED, None, hyper_parameters={})
    text = guard_page(guard, scores, record=[], facts=facts, measured=Measured(detection=FOUND))
    assert 'class="bar usual"' in text
    assert 'class="bar flagged"' not in text
    assert "nan" not in text.replace("nance", "").lower().split("<body")[-1]


def test_a_calibration_says_that_nobody_measured_what_it_catches_and_how_to(guard, made):
    facts = run_facts(
        Run(),
        [guard.method],
        made.STARTED,
        ["detrojan", "guard", "calibrate", "m", "--out", "my guard"],
        hyper_parameters={},
    )
    text = guard_page(guard, {"clean": guard.clean_scores}, record=[], facts=facts)
    assert "How many attacks this catches was not measured." in text
    assert "detrojan guard measure &#39;my guard&#39; --data DATA --trigger FILE --target LABEL" in text
    told = page(guard, made, measured=Measured(detection=FOUND))
    assert "not measured" not in told
    assert "What to do now" not in told


@pytest.mark.parametrize("kind", methods("guards").values())
def test_every_guard_says_what_gets_past_it(kind):
    assert kind.lets_through.endswith("gets past it.")


def test_the_page_of_auto_does_not_say_what_gets_past_strip(made):
    images = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    guard = Auto(frr=0.1, parts="consistency").calibrate(made.make_model(10), Dataset(images), run=Run())
    text = page(guard, made)
    assert Auto.lets_through in text
    assert Strip.lets_through not in text


@pytest.mark.parametrize(("far", "mood"), [(0.01, "good"), (0.3, "inconclusive")])
def test_a_guard_that_catches_nearly_all_looks_good(guard, made, far, mood):
    told = page(guard, made, measured=Measured(detection=replace(FOUND, far=far)))
    assert f'<div class="verdict {mood}">' in told
