from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.findings import Finding
from detrojan.guards.auto import FOUND, Auto
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.likeness import Likeness, learned, taught
from detrojan.metrics.detection import auroc
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


def finding(trigger):
    return Finding(label=TARGET, flagged=True, trigger=trigger)


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


@pytest.fixture(scope="module")
def made(twins, clean):
    method = Auto(frr=0.05, parts="mahalanobis")
    return method.calibrate(twins.backdoored, clean, run=RUN, findings=[finding(twins.trigger)])


def test_a_direction_is_that_along_which_both_groups_part():
    chance = torch.Generator().manual_seed(0)
    clean, stamped = torch.randn(2, 400, 5, generator=chance)
    stamped[:, 2] += 3
    found = Likeness.of("layer", clean, [stamped])
    assert int(found.directions[0].abs().argmax()) == 2
    assert float(found(clean).mean()) == pytest.approx(0, abs=1e-6)
    assert float(found(stamped).mean()) == pytest.approx(3, abs=0.3)


def test_stamped_images_are_like_those_it_learned_from(twins, clean):
    likeness, scores = learned(twins.backdoored, clean, [finding(twins.trigger)], run=RUN)
    test = twins.test.images[:200]
    bad = twins.trigger.stamp(test[twins.test.labels[:200] != TARGET])
    assert auroc(likeness.score(twins.backdoored, test), likeness.score(twins.backdoored, bad)) > 0.9
    assert scores.shape == (len(clean),)
    assert float((scores - likeness.score(twins.backdoored, clean.images)).abs().mean()) < 1


def test_half_of_the_images_are_stamped_to_learn_from():
    inside = taught(31, RUN)
    assert int(inside.sum()) == 15
    assert torch.equal(inside, taught(31, RUN))


def test_a_found_trigger_is_one_more_part(twins, made, tmp_path):
    bad = twins.trigger.stamp(twins.test.images[:40])
    assert made.each(bad).shape == (40, 2)
    assert FOUND in made.blamed(bad)
    again = load_guard(save_guard(made, tmp_path), twins.backdoored)
    assert torch.equal(again.score(bad), made.score(bad))


def test_a_trigger_that_leads_nowhere_teaches_nothing(twins, clean):
    none = PatchTrigger(torch.zeros(twins.test.shape[1:]), torch.zeros(twins.test.shape))
    found = Auto(parts="mahalanobis").calibrate(twins.backdoored, clean, run=RUN, findings=[finding(none)])
    assert found.found is None
    assert "work on too few images" in found.warnings[0]


@pytest.mark.parametrize(
    ("values", "tensors", "said"),
    [
        ({FOUND: "nowhere"}, {}, "expected a layer of the network"),
        ({FOUND: ["layer"]}, {}, "not a valid guard|expected a layer"),
        ({}, {f"{FOUND}/scale": torch.zeros(1, dtype=torch.float64)}, "scales above 0"),
        ({}, {f"{FOUND}/directions": torch.zeros(2, dtype=torch.float64)}, "expected directions"),
        ({}, {f"{FOUND}/clean_scores": torch.zeros(0)}, "expected clean_scores of found trigger"),
    ],
)
def test_damaged_files_are_refused(twins, made, tmp_path, monkeypatch, values, tensors, said):
    kept, known = made.state()
    monkeypatch.setattr(type(made), "state", lambda _self: (kept | tensors, known | values))
    with pytest.raises(DataError, match=said):
        load_guard(save_guard(made, tmp_path), twins.backdoored)
