from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.layers import pooled
from detrojan.guards.ted import Ted
from detrojan.metrics.detection import detection
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


@pytest.fixture(scope="module")
def made(twins, clean):
    return Ted(frr=0.05).calibrate(twins.backdoored, clean, run=RUN)


def test_a_backdoored_path_to_its_answer_is_unusual(twins, clean, made):
    images = twins.test.images[:300]
    bad = twins.trigger.stamp(images[twins.test.labels[:300] != TARGET])
    other = Ted(frr=0.05).calibrate(twins.clean, clean, run=RUN)
    ours, theirs = (detection(one.score(images), one.score(bad), one.threshold) for one in (made, other))
    assert ours.auroc > 0.75
    assert ours.auroc > theirs.auroc + 0.1
    assert max(ours.frr, theirs.frr) < 0.15


def test_a_path_is_that_of_a_slow_reference(twins, made):
    images = twins.test.images[:3]
    path, labels = made.path(made.read(images)), twins.backdoored.answers(images)
    values, _ = pooled(twins.backdoored, images, made.layers)
    for layer, one in enumerate(values):
        inside = (one - made.units[layer][0]) / made.units[layer][1]
        for row in range(3):
            far = (inside[row] - made.known[layer]).norm(dim=1).double()
            nearest = far[made.answers == labels[row]].min()
            rank = int((far < nearest - 1e-5).sum())
            assert float(path[row, layer].expm1()) == pytest.approx(rank, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": torch.zeros(2)}, "expected answers, one whole number per clean image"),
        ({"answers": torch.full((150,), 99)}, "expected answers of 0 to 7"),
        ({"0.units": torch.zeros(2, 1)}, "expected 0.units as torch.float32"),
    ],
)
def test_damaged_files_are_refused(twins, made, tmp_path, monkeypatch, change, said):
    tensors, values = made.state()
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors | change, values))
    with pytest.raises(DataError, match=said):
        load_guard(save_guard(made, tmp_path), twins.backdoored)
