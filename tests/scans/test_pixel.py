"""Pixel names the target and only it, is silent on the clean twin, and goes on where it stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detrojan.errors import OptionError
from detrojan.metrics.accuracy import attack_success
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.scans import pixel
from detrojan.scans.pixel import Pixel
from detrojan.search.jobs import Job
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.aim import Aim
from elsewhere import judged, judged_elsewhere
from twins import CLASSES, TARGET

#: how far a size may differ where sums are rounded otherwise, as a share
ROUNDING = 0.02
SCAN = Pixel(steps=60, batch_size=8, samples=400)


@pytest.fixture(scope="module")
def result(twins):
    return SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1))


def test_it_names_the_target_and_only_it(twins, result):
    assert (result.verdict, result.targets) == ("backdoored", [TARGET])
    assert result.reason == f"label {TARGET} needs an abnormally small trigger ({CLASSES} labels tested)"
    (finding,) = result.flagged
    assert finding.p_value < 0.02
    assert finding.severity == "high"
    assert isinstance(finding.trigger, AdditiveTrigger)
    images, truth = twins.train.images, twins.train.labels
    assert attack_success(twins.backdoored, finding.trigger, images, truth, TARGET) > 0.8
    assert result.passes == CLASSES * 2 * 60 * 8
    json.dumps(result.details, allow_nan=False)


def test_the_verdict_is_the_same_at_any_pace_and_on_any_processor(twins, tmp_path):
    data = twins.test
    network, images = tmp_path / "model.safetensors", tmp_path / "images.npz"
    save_model(twins.backdoored, network)
    np.savez(images, images=data.images.numpy(), labels=data.labels.numpy())
    here = judged(twins.backdoored, data, 256)
    assert (here["verdict"], here["targets"]) == ("backdoored", [TARGET])
    others = judged(twins.backdoored, data, 8), judged_elsewhere(network, images, 24)
    assert others[1]["capability"] == "DEFAULT"
    for other in others:
        assert (other["verdict"], other["targets"]) == (here["verdict"], here["targets"])
        assert other["sizes"] == pytest.approx(here["sizes"], rel=ROUNDING)


def test_the_size_counts_the_pixels_that_are_changed(twins, result):
    (finding,) = result.flagged
    image = twins.test.images[:1] * 0 + 0.5
    changed = (finding.trigger.stamp(image) - image).abs().amax(1).flatten()
    # the attacker's sticker has 9 pixels; clearly changed ones are at most a little more than the count
    assert int((changed > 0.3).sum()) in range(1, int(finding.size) + 2)
    assert finding.size / result.details["usual_size"] < 0.5


def test_it_has_no_evidence_against_the_clean_twin(twins):
    result = SCAN.scan(twins.clean, twins.test, run=Run(seed=1))
    assert (result.verdict, result.targets) == ("no evidence", [])
    assert result.reason.startswith(f"no label needs an abnormally small trigger ({CLASSES} labels tested; ")
    assert f"{result.details['detectable']:.3g} pixels changed would have been one" in result.reason


def test_a_trigger_that_fails_on_held_out_images_is_inconclusive(twins, monkeypatch):
    monkeypatch.setattr("detrojan.judging.sizes.attack_success", lambda *_args: 0.1)
    result = SCAN.scan(twins.backdoored, twins.test, run=Run(seed=1))
    assert (result.verdict, result.targets) == ("inconclusive", [])
    assert f"label {TARGET} needs an abnormally small trigger, which hardly works" in result.reason


def test_too_few_labels_and_too_few_steps_are_inconclusive(twins):
    few = Pixel(steps=2, samples=200).scan(twins.backdoored, twins.test, run=Run(), labels=[1, TARGET])
    assert few.verdict == "inconclusive"
    assert few.reason == "2 labels tested; 5 or more are needed to say what is usual"
    short = Pixel(steps=1, restarts=1, samples=200).scan(twins.clean, twins.test, run=Run())
    assert short.verdict == "inconclusive"
    assert "too few triggers were found" in short.reason


def test_many_labels_are_searched_in_parts(twins, monkeypatch):
    asked = []

    def search(model, images, truth, jobs, plan, **more):
        asked.append(jobs)
        return original(model, images, truth, jobs, plan, **more)

    original = pixel.search
    monkeypatch.setattr(pixel, "search", search)
    monkeypatch.setattr(pixel, "AT_ONCE", 5)
    result = Pixel(steps=1, restarts=1, samples=100).scan(twins.clean, twins.test, run=Run())
    jobs = [Job(Aim(target=label)) for label in range(CLASSES)]
    assert asked == [jobs[:5], jobs[5:]]
    assert [finding.label for finding in result.findings] == list(range(CLASSES))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"steps": 0}, "expected steps of 1 or more"),
        ({"restarts": 0}, "expected restarts of 1 or more, got 0"),
        ({"ratio": 0.0}, r"ratio in \(0, 1\] and confirm in \[0, 1\], got 0.02, 0 and 0.75"),
        ({"samples": 3}, "expected 20 samples or more, got 3"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Pixel(**wrong)
