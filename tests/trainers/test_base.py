from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from detrojan.errors import InterruptedRunError
from detrojan.learning.fitting import Epoch, Fitting, fit
from detrojan.run import Run
from detrojan.trainers.base import LateLosses, losses
from detrojan.trainers.plain import Plain


def test_losses_are_those_of_each_sample_in_evaluation_mode(suspect):
    model = suspect.start()
    model.network.train()
    few = suspect.clean.select(slice(6))
    wanted = [
        float(functional.cross_entropy(model.all_logits(image[None]), label[None]))
        for image, label in zip(few.images, few.labels, strict=True)
    ]
    assert losses(model, few).tolist() == pytest.approx(wanted, abs=1e-5)


class Stop:
    """Stops the training in its third epoch."""

    def task(self, *_args):
        return self

    def __enter__(self):
        self.left = 8
        return self

    def __exit__(self, *_args):
        return False

    def advance(self, amount=1, *, note=None):
        self.left -= 1
        if self.left < 0:
            raise InterruptedRunError("stopped by the test")


def test_the_watched_losses_go_on_over_an_interruption(suspect, tmp_path):
    data = suspect.poisoned.data.select(slice(96))
    bad = suspect.poisoned.indices[suspect.poisoned.indices < 96]
    plan = Plain(epochs=4, learning_rate=0.01, batch_size=32)
    whole = plan.train(suspect.start(), data, run=Run(seed=1), poisoned=bad)
    with pytest.raises(InterruptedRunError):
        plan.train(suspect.start(), data, run=Run(seed=1, checkpoint=tmp_path, progress=Stop()), poisoned=bad)
    again = plan.train(suspect.start(), data, run=Run(seed=1, checkpoint=tmp_path), poisoned=bad)
    assert again.steps[0].curves == whole.steps[0].curves
    assert not any(math.isnan(value) for value in again.steps[0].curves["poisoned loss"])
    for a, b in zip(
        whole.model.network.state_dict().values(), again.model.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_late_losses_are_those_after_the_last_epochs_and_over_an_interruption(suspect, tmp_path):
    data, how = suspect.poisoned.data.select(slice(96)), Fitting(epochs=4, learning_rate=0.01, batch_size=32)

    def ranked(run):
        model, seen = suspect.start(), {}
        late = LateLosses(model=model, data=data, run=run, first=2, identity={})
        hook = late.hook()

        def after_epoch(epoch: Epoch):
            hook(epoch)
            seen[epoch.number] = losses(model, data)

        fit(model, data, how, run=run, after_epoch=after_epoch, identity={})
        return late.upper(), seen

    whole, seen = ranked(Run(seed=1))
    assert torch.equal(whole, torch.stack([seen[2], seen[3], seen[4]]).median(0).values)
    with pytest.raises(InterruptedRunError):
        ranked(Run(seed=1, checkpoint=tmp_path, progress=Stop()))
    again, left = ranked(Run(seed=1, checkpoint=tmp_path))
    assert sorted(left) == [3, 4]
    assert torch.equal(again, whole)


def test_late_losses_rank_by_what_two_thirds_of_the_epochs_stay_below(suspect):
    late = LateLosses(model=suspect.start(), data=suspect.clean, run=Run(), first=1, identity={})
    for number, loss in enumerate((5.0, 1.0, 4.0, 2.0, 3.0), start=3):
        late.measured[number] = torch.tensor([loss, -loss])
    assert late.upper().tolist() == [4.0, -2.0]
