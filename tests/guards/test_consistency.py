from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.consistency import CHANGES, Consistency
from detrojan.guards.usual import Usual
from detrojan.metrics.detection import detection
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


def test_a_trigger_reacts_to_harmless_changes_as_no_clean_input_does(twins, clean):
    images = twins.test.images[:300]
    bad = twins.trigger.stamp(images[twins.test.labels[:300] != TARGET])
    found = {}
    for name, model in (("backdoored", twins.backdoored), ("clean", twins.clean)):
        made = Consistency(frr=0.05).calibrate(model, clean, run=RUN)
        found[name] = detection(made.score(images), made.score(bad), made.threshold)
        assert found[name].frr < 0.15
    assert found["backdoored"].auroc > found["clean"].auroc + 0.1


def test_a_profile_is_the_odds_of_the_first_answer(twins, clean):
    model, images = twins.backdoored, twins.test.images[:4]
    made = Consistency(frr=0.05).calibrate(model, clean, run=RUN)
    profile, labels = made.profile(images), model.answers(images)
    assert profile.shape == (4, 1 + len(CHANGES))
    for column, changed in ((0, images), (1 + list(CHANGES).index("darker"), 0.6 * images)):
        chances = model.all_logits(changed).double().softmax(1)[torch.arange(4), labels]
        assert torch.allclose(profile[:, column], torch.logit(chances), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9)])
def test_changes_keep_the_shape_of_any_image_and_do_change_it(shape):
    chance = torch.Generator().manual_seed(0)
    images, noise = torch.rand(2, *shape, generator=chance), torch.randn(shape, generator=chance)
    for name, change in CHANGES.items():
        changed = change(images, noise)
        assert changed.shape == images.shape
        assert shape[0] == 1 or not torch.equal(changed, images), name


def test_one_half_twice_is_its_own_mirror_image():
    images, noise = torch.arange(45.0).reshape(1, 1, 5, 9) / 45, torch.zeros(1, 5, 9)
    for name, kept in (("left half twice", slice(0, 5)), ("right half twice", slice(4, 9))):
        made = CHANGES[name](images, noise)
        assert torch.equal(made, made.flip(3))
        assert torch.equal(made[..., kept], images[..., kept])


def test_a_hidden_half_is_the_mean_colour_and_the_other_half_stays():
    images, noise = torch.rand(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 5, 8)
    for name, hidden, kept in (
        ("left half hidden", slice(0, 4), slice(4, 8)),
        ("right half hidden", slice(4, 8), slice(0, 4)),
    ):
        made = CHANGES[name](images, noise)
        assert torch.equal(made[..., kept], images[..., kept])
        assert torch.equal(made[..., hidden], images.mean((2, 3), keepdim=True).expand(2, 3, 5, 4))


@pytest.mark.parametrize("size", [17, 19])
def test_a_guard_of_an_older_version_asks_what_it_was_set_up_with(twins, clean, tmp_path, size):
    made = Consistency(frr=0.05).calibrate(twins.backdoored, clean.select(slice(40)), run=RUN)
    profile = made.profile(clean.images[:40])[:, :size]
    older = replace(made, usual=Usual.of(profile))
    again = load_guard(save_guard(older, tmp_path), twins.backdoored)
    assert again.profile(clean.images[:3]).shape == (3, size)


def test_a_turn_is_about_the_centre_and_a_move_repeats_the_border():
    images, noise = torch.arange(100.0).reshape(1, 1, 10, 10) / 100, torch.zeros(1, 10, 10)
    moved = CHANGES["moved"](images, noise)
    assert torch.equal(moved[0, 0, 1:, 1:], images[0, 0, :-1, :-1])
    assert torch.equal(moved[0, 0, 0, 1:], images[0, 0, 0, :-1])
    assert torch.equal(CHANGES["moved back"](images, noise)[0, 0, :-1, :-1], images[0, 0, 1:, 1:])
    turned = CHANGES["turned"](images, noise)
    assert float(turned[0, 0, 4:6, 4:6].mean()) == pytest.approx(float(images.mean()), abs=1e-3)
