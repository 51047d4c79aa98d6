from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.mahalanobis import Mahalanobis
from detrojan.metrics.detection import detection
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


@pytest.fixture(scope="module")
def made(twins, clean):
    return Mahalanobis(frr=0.05).calibrate(twins.backdoored, clean, run=RUN)


def test_what_is_answered_by_a_trigger_is_far_from_its_class(twins, clean, made):
    images = twins.test.images[:300]
    bad = twins.trigger.stamp(images[twins.test.labels[:300] != TARGET])
    other = Mahalanobis(frr=0.05).calibrate(twins.clean, clean, run=RUN)
    ours, theirs = (detection(one.score(images), one.score(bad), one.threshold) for one in (made, other))
    assert ours.auroc > 0.8
    assert ours.auroc > theirs.auroc + 0.1
    assert max(ours.frr, theirs.frr) < 0.15


def test_the_score_is_the_mean_of_the_last_layers_distances(twins, made):
    images = twins.test.images[:5]
    assert len(made.layers) == 1
    assert torch.allclose(made.score(images), made.distances(made.read(images)).mean(1))


def test_files_with_other_means_are_refused(twins, made, tmp_path, monkeypatch):
    state = made.state()
    wrong = {**state[0], "0.means": state[0]["0.means"][:, :1].clone()}
    monkeypatch.setattr(type(made), "state", lambda _self: (wrong, state[1]))
    with pytest.raises(DataError, match=r"expected 0.usual.mean as torch.float64 of shape \(1,\)"):
        load_guard(save_guard(made, tmp_path), twins.backdoored)
