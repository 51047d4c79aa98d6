from __future__ import annotations

import pytest
import torch

from detrojan.guards.cross_fitted import CrossFitted, folded
from detrojan.guards.ted import Ted
from detrojan.run import Run
from twins import few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def clean():
    return few_signs(60, 11)


def test_what_is_read_once_gives_the_scores_of_guards_that_learn_from_each_fold(twins, clean, monkeypatch):
    monkeypatch.setattr(Ted, "folds", 4)
    made, scores = Ted().crossed(twins.backdoored, clean, run=RUN)
    slow, again = CrossFitted.crossed(Ted(), twins.backdoored, clean, run=RUN)
    assert torch.allclose(scores, again)
    assert torch.equal(made.score(clean.images[:5]), slow.score(clean.images[:5]))


def test_an_image_is_judged_by_a_guard_that_does_not_know_it(twins, clean):
    _, scores = Ted().crossed(twins.backdoored, clean, run=RUN)
    left_out, known = folded(len(clean), Ted.folds, RUN)[0]
    part = Ted().learned(twins.backdoored, clean.select(known), run=RUN)
    assert torch.allclose(part.score(clean.images[left_out]), scores[left_out])
    # its own nearest neighbour is itself: a guard that knows an image finds it usual
    assert float(Ted().learned(twins.backdoored, clean, run=RUN).score(clean.images).max()) < 1e-6
