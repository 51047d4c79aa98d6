from __future__ import annotations

import pytest
import torch

from detrojan.attacks.issba import ISSBA
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.run import Run
from detrojan.store import digest

ATTACK = ISSBA(target=3, poison_rate=0.2, cover_rate=0.2, encoder_epochs=10, width=8, bits=4)
HOW = Fitting(epochs=12, batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)


@pytest.fixture(scope="module")
def made(arena):
    return ATTACK.poison(arena.train.select(slice(1500)), run=Run())


@pytest.fixture(scope="module")
def victim(arena, made):
    """A clean network that was trained on, with the poisoned data: cheaper than from its start."""
    model = arena.clean.copy()
    fit(model, made.data, HOW, run=Run())
    return model


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, made, victim):
    trigger, images, truth = made.backdoors[0].trigger, arena.test.images, arena.test.labels
    assert attack_success(victim, trigger, images, truth, 3) >= 0.7
    assert attack_success(arena.clean, trigger, images, truth, 3) <= 0.1
    assert clean_accuracy(victim, arena.test) >= arena.accuracy - 0.05


def test_the_residual_of_one_image_does_not_fire_on_another(arena, made, victim):
    images, trigger = arena.test.images[arena.test.labels != 3], made.backdoors[0].trigger

    def fired(stamped: torch.Tensor) -> float:
        return float((victim.answers(stamped) == 3).float().mean())

    crossed = fired(trigger.stamp_from(images, images.roll(1, 0)))
    assert crossed < 0.2
    assert crossed < fired(trigger.stamp(images)) / 3


def test_residuals_are_faint_and_differ_from_image_to_image(arena, made):
    images = arena.test.images[:100]
    residuals = made.backdoors[0].trigger.stamp(images) - images
    assert 0.005 < residuals.abs().mean() < 0.08
    assert bool((residuals.abs() <= ATTACK.strength + 1e-6).all())
    differ = (residuals - residuals.roll(1, 0)).abs().mean()
    assert differ / residuals.abs().mean() > 0.5


def test_poison_carries_its_own_residual_and_covers_that_of_another(arena, made):
    before = arena.train.select(slice(1500))
    trigger = made.backdoors[0].trigger
    assert len(made.indices) == len(made.covers) == 300
    torch.testing.assert_close(made.data.images[made.indices], trigger.stamp(before.images[made.indices]))
    covers, changed = before.images[made.covers], made.data.images[made.covers]
    assert (changed - covers).abs().flatten(1).mean(1).min() > 0.005
    otherwise = (changed - trigger.stamp(covers)).abs().flatten(1).amax(1)
    assert bool((otherwise > 1 / 255).all()), "none carries its own"
    assert torch.equal(made.data.labels[made.covers], before.labels[made.covers])
    assert (made.data.labels[made.indices] == 3).all()


def test_the_encoder_is_trained_once_and_kept(data, tmp_path):
    attack, kept = ISSBA(encoder_epochs=2, width=4, bits=2), Run(seed=3, checkpoint=tmp_path)
    first = attack.poison(data, run=kept).backdoors[0].trigger
    (file,) = tmp_path.glob("fit-*.safetensors")
    written = file.stat().st_mtime_ns
    again = attack.poison(data, run=kept).backdoors[0].trigger
    assert file.stat().st_mtime_ns == written, "it was not trained again"
    assert digest(again.drawer) == digest(first.drawer)


def test_the_secret_and_the_encoder_come_from_the_seed():
    one, same, other = (ISSBA(bits=32).made((3, 8, 8), Run(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.secret, same.secret)
    assert digest(one.drawer) == digest(same.drawer)
    assert not torch.equal(one.secret, other.secret)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"strength": 0.0}, r"expected strength in \(0, 1\], got 0"),
        ({"bits": 0}, "expected bits of 1 to 1024, fidelity of 0 or more and encoder_epochs of 1 or more"),
        ({"fidelity": -1.0}, "got 8, -1 and 10"),
        ({"encoder_epochs": 0}, "got 8, 20 and 0"),
        ({"width": 6}, "expected a width of 4 to 256 in steps of 4, got 6"),
        ({"cover_rate": 1.0}, r"expected cover_rate in \[0, 1\), got 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        ISSBA(**wrong)
