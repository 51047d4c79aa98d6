from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detrojan.attacks.feature_collision import FeatureCollision, features
from detrojan.errors import LabelError, OptionError
from detrojan.run import Run


@pytest.fixture(scope="module")
def attack(arena):
    return FeatureCollision(target=3, surrogate=arena.clean, size=4, steps=20, watermark=0.3)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena, attack):
    outcome = arena.attacked(attack)
    assert outcome.success >= 0.85
    assert outcome.by_chance <= 0.05
    assert outcome.accuracy >= arena.accuracy - 0.05
    assert torch.equal(outcome.made.data.labels, arena.train.labels)
    assert (outcome.made.data.labels[outcome.made.indices] == 3).all()


def test_features_collide_while_the_image_stays_near_its_base(arena, attack):
    bases, stamped = arena.test.images[:40], arena.test.images[40:80]
    start = torch.lerp(bases, stamped, 0.3)
    made = attack._collided(arena.clean, bases, stamped)
    with arena.clean.judging(), torch.no_grad():
        at, wanted, was = (features(arena.clean, images) for images in (made, stamped, start))
    left = (at - wanted).norm(dim=1) / (was - wanted).norm(dim=1)
    assert left.mean() < 0.5, "most of the way in features"
    assert (made - start).abs().mean() < 0.05, "little of it in pixels"
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_proximity_holds_the_images_back(arena, attack):
    bases, stamped = arena.test.images[:20], arena.test.images[40:60]
    start = torch.lerp(bases, stamped, 0.3)
    held = FeatureCollision(surrogate=arena.clean, steps=20, watermark=0.3, proximity=2.0)
    near, far = (one._collided(arena.clean, bases, stamped) - start for one in (held, attack))
    assert near.norm() < 0.7 * far.norm()


@pytest.mark.parametrize("visible", [0.0, 0.5, 1.0])
def test_the_trigger_is_as_visible_on_the_poison_as_asked_for(arena, attack, visible):
    data = arena.train.select(slice(120))
    faint, asked = (replace(attack, steps=2, visible=v).poison(data, run=Run()) for v in (0.0, visible))
    assert torch.equal(asked.indices, faint.indices)
    trigger, before = asked.backdoors[0].trigger, faint.data.images[asked.indices]
    added = asked.data.images[asked.indices] - before
    assert torch.allclose(added, visible * (trigger.stamp(before) - before), atol=1e-6)
    assert (trigger.stamp(before) - before).abs().max() > 0.3, "the watermark alone is no patch"


def test_data_of_the_target_alone_are_refused(data):
    alone = data.select(data.labels == 2)
    with pytest.raises(LabelError, match="expected images of classes other than the target 2, got none"):
        FeatureCollision(target=2, epochs=1).poison(alone, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"watermark": 1.0}, r"expected watermark in \[0, 1\), got 1"),
        ({"proximity": -1.0}, "expected proximity of 0 or more and length above 0, got -1 and 0.3"),
        ({"length": 0.0}, "got 0.1 and 0"),
        ({"steps": 0}, "expected steps of 1 or more, got 0"),
        ({"visible": 1.5}, r"expected visible in \[0, 1\], got 1.5"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        FeatureCollision(**wrong)
