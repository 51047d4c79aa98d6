from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.guards.badexpert import BadExpert
from detrojan.guards.bundle import load_bundle, load_guard, save_bundle, save_guard
from detrojan.metrics.accuracy import agreement
from detrojan.metrics.detection import detection
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


@pytest.fixture(scope="module")
def made(twins, clean):
    return BadExpert(frr=0.05).calibrate(twins.backdoored, clean, run=RUN)


@pytest.fixture(scope="module")
def bad(twins):
    images = twins.test.images[:300]
    return twins.trigger.stamp(images[twins.test.labels[:300] != TARGET])


def test_the_expert_keeps_the_backdoor_and_the_shadow_the_task(twins, made, bad):
    images, labels = twins.test.images[:300], twins.test.labels[:300]
    assert agreement(made.expert, labels, images) < 0.5
    assert agreement(made.shadow, labels, images) > 0.6
    share = {name: float((one.answers(bad) == TARGET).double().mean())
             for name, one in (("expert", made.expert), ("shadow", made.shadow))}  # fmt: skip
    assert share["expert"] > share["shadow"]


def test_stamped_images_are_told_from_clean_ones(twins, made, bad):
    found = detection(made.score(twins.test.images[:300]), made.score(bad), made.threshold)
    assert found.auroc > 0.8
    assert found.frr < 0.15


def test_both_networks_travel_with_the_guard(twins, made, bad, tmp_path):
    again = load_bundle(save_bundle(made, tmp_path / "guard"), device="cpu")
    assert torch.allclose(again.score(bad[:20]), made.score(bad[:20]), atol=1e-4)
    assert again.expert.fingerprint == made.expert.fingerprint
    assert again.shadow.fingerprint == made.shadow.fingerprint


@pytest.mark.parametrize("change", ["missing", "more", "other type", "other shape"])
def test_other_weights_are_refused(twins, made, tmp_path, monkeypatch, change):
    tensors, values = made.state()
    key = next(name for name in tensors if name.startswith("expert."))
    match change:
        case "missing":
            del tensors[key]
        case "more":
            tensors["shadow.more"] = torch.zeros(1)
        case "other type":
            tensors[key] = tensors[key].double()
        case "other shape":
            tensors[key] = torch.zeros(1)
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors, values))
    with pytest.raises(DataError, match=r"as the network has them|not a valid guard: RuntimeError"):
        load_guard(save_guard(made, tmp_path), twins.backdoored)
