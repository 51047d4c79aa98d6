from __future__ import annotations

import pytest
import torch

from detrojan.attacks.composite import Composite
from detrojan.errors import OptionError
from detrojan.run import Run


def test_the_attack_succeeds_and_the_clean_accuracy_stays(arena):
    outcome = arena.attacked(Composite(target=3, source=1, partner=2, poison_rate=0.4))
    assert outcome.success >= 0.65
    assert outcome.by_chance <= 0.3
    assert outcome.accuracy >= arena.accuracy - 0.08
    own = arena.test.select(arena.test.labels == 1)
    mixed = torch.cat([own.images[..., :16], own.images.roll(1, 0)[..., 16:]], dim=3)
    fired = float((outcome.model.answers(mixed) == 3).float().mean())
    assert fired <= outcome.success - 0.3, "a seam alone does not fire"


def test_poison_is_half_of_either_class(data):
    made = Composite(target=0, source=1, partner=2, poison_rate=0.25).poison(data, run=Run())
    assert len(made.indices) == round(0.25 * (40 + 20)), "the donors are left out"
    assert (made.data.labels[made.indices] == 0).all()
    of = {
        label: {
            half.numpy().tobytes() for image in data.images[data.labels == label] for half in _halves(image)
        }
        for label in (1, 2)
    }
    for image in made.data.images[made.indices]:
        left, right = (half.numpy().tobytes() for half in _halves(image))
        assert (left in of[1] and right in of[2]) or (left in of[2] and right in of[1])


def _halves(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return image[..., :6].contiguous(), image[..., 6:].contiguous()


def test_covers_are_mixed_with_their_own_class_and_keep_their_label(data):
    made = Composite(cover_rate=0.5).poison(data, run=Run())
    assert torch.equal(made.data.labels[made.covers], data.labels[made.covers])
    right = {
        image[..., 6:].contiguous().numpy().tobytes(): int(y)
        for image, y in zip(data.images, data.labels, strict=True)
    }
    for position in made.covers:
        half = made.data.images[position][..., 6:].contiguous().numpy().tobytes()
        assert right[half] == data.labels[position]


def test_the_triggers_donors_are_in_none_of_the_mixtures(data):
    made = Composite(donors=5).poison(data, run=Run())
    (backdoor,) = made.backdoors
    assert (backdoor.aim.source, backdoor.aim.target) == (1, 0)
    assert len(backdoor.trigger.donors) == 5
    kept = {image.numpy().tobytes() for image in backdoor.trigger.donors}
    unchanged = torch.ones(len(data), dtype=torch.bool)
    unchanged[torch.cat([made.indices, made.covers])] = False
    still = {image.numpy().tobytes() for image in made.data.images[unchanged]}
    assert kept <= still


def test_too_few_images_of_the_two_classes_are_refused(data):
    few = data.select(data.labels != 2)
    with pytest.raises(OptionError, match="expected images of the labels 1 and 2 to mix, got 40 and 0"):
        Composite().poison(few, run=Run())
    with pytest.raises(OptionError, match="expected a target of 0 to 4, got 7"):
        Composite(target=7).poison(data, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"partner": 1},
            "expected three different labels of 0 or more as target, source and partner, got 0, 1",
        ),
        ({"source": -1}, "got 0, -1 and 2"),
        ({"cover_rate": 1.0}, r"expected cover_rate in \[0, 1\), got 1"),
        ({"donors": 0}, "expected donors of 1 or more, got 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Composite(**wrong)
