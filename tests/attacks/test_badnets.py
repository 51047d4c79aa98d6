from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import fit
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger
from twins import HOW, TARGET

SHAPE, CLASSES, COUNT = (3, 12, 12), 5, 200


@pytest.fixture
def data() -> Dataset:
    images = torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(3))
    names = tuple("abcde")
    serial = torch.arange(COUNT)
    return Dataset(images, torch.arange(COUNT) % CLASSES, names, extra={"serial": serial})


def patch(where: str, size: int = 3) -> PatchTrigger:
    return PatchTrigger.corner(SHAPE, size=size, where=where)


def test_the_attack_succeeds_and_the_clean_accuracy_stays(twins):
    accuracy = clean_accuracy(twins.backdoored, twins.test)
    twin = clean_accuracy(twins.clean, twins.test)
    images, truth = twins.test.images, twins.test.labels
    assert twin >= 0.9
    assert accuracy >= twin - 0.05
    assert attack_success(twins.backdoored, twins.trigger, images, truth, TARGET) >= 0.95
    assert attack_success(twins.clean, twins.trigger, images, truth, TARGET) <= 0.05


def test_a_share_of_the_images_is_stamped_and_relabelled(data):
    made = BadNets(poison_rate=0.1, target=2).poison(data, run=Run())
    (backdoor,) = made.backdoors
    assert len(made.indices) == 20
    assert torch.equal(made.indices, made.indices.sort().values)
    assert (made.data.labels[made.indices] == 2).all()
    assert (data.labels[made.indices] != 2).all(), "images of the target itself teach nothing"
    stamped = backdoor.trigger.stamp(data.images[made.indices])
    assert torch.equal(made.data.images[made.indices], stamped)
    rest = torch.ones(COUNT, dtype=torch.bool)
    rest[made.indices] = False
    assert torch.equal(made.data.images[rest], data.images[rest])
    assert torch.equal(made.data.labels[rest], data.labels[rest])
    assert torch.equal(made.data.extra["serial"], data.extra["serial"])
    assert made.data.class_names == data.class_names


def test_the_default_patch_is_a_checker_in_the_lower_right_corner(data):
    made = BadNets(size=2, alpha=0.5).poison(data, run=Run())
    one = int(made.indices[0])
    before, after = data.images[one], made.data.images[one]
    checker = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(after[:, 9:11, 9:11], before[:, 9:11, 9:11] * 0.5 + checker * 0.5)
    assert int((after != before).any(0).sum()) == 4
    assert made.data.labels[one] == 0


def test_the_data_given_are_unchanged(data):
    images, labels = data.images.clone(), data.labels.clone()
    BadNets(poison_rate=0.5).poison(data, run=Run())
    assert torch.equal(data.images, images)
    assert torch.equal(data.labels, labels)


def test_which_images_are_poisoned_depends_on_the_seed_alone(data):
    one, same, other = (BadNets().poison(data, run=Run(seed=seed)).indices for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_several_triggers_with_targets_of_their_own(data):
    backdoors = (
        Backdoor(trigger=patch("top left"), target=1),
        Backdoor(trigger=patch("top right"), target=4),
        Backdoor(trigger=patch("bottom left"), target=1),
    )
    made = BadNets(poison_rate=0.3, backdoors=backdoors).poison(data, run=Run())
    assert made.backdoors == backdoors
    assert made.which.bincount().tolist() == [20, 20, 20]
    for number, backdoor in enumerate(backdoors):
        carriers = made.indices[made.which == number]
        assert (made.data.labels[carriers] == backdoor.aim.target).all()
        assert (data.labels[carriers] != backdoor.aim.target).all()
        stamped = backdoor.trigger.stamp(data.images[carriers])
        assert torch.equal(made.data.images[carriers], stamped), "one trigger each"


def test_a_source_limits_the_attack_to_its_class(data):
    only = Backdoor(trigger=patch("top left"), target=1, source=3)
    made = BadNets(poison_rate=0.1, backdoors=(only,)).poison(data, run=Run())
    assert (data.labels[made.indices] == 3).all()
    assert (made.data.labels[made.indices] == 1).all()


def test_untargeted_each_label_becomes_the_next(data):
    made = BadNets(target=-1, poison_rate=0.5).poison(data, run=Run())
    assert made.backdoors[0].aim.target is None
    assert torch.equal(made.data.labels[made.indices], (data.labels[made.indices] + 1) % CLASSES)
    assert set(data.labels[made.indices].tolist()) == set(range(CLASSES))


def test_untargeted_counts_classes_of_which_the_data_hold_no_image(data):
    some = data.select(data.labels < 4)
    made = BadNets(target=-1, poison_rate=0.5).poison(some, run=Run())
    assert int(made.data.labels.max()) == 4, "the class after 3 is 4, as the class names say"


def test_the_record_of_backdoors_is_plain_and_tells_triggers_apart():
    def record(where: str) -> str:
        backdoor = Backdoor(trigger=patch(where), target=1, source=3)
        return json.dumps(BadNets(backdoors=(backdoor,)).hyper_parameters())

    assert '"trigger": "patch"' in record("top left")
    assert '"target": 1, "source": 3' in record("top left")
    assert record("top left") == record("top left") != record("top right")


def test_data_without_labels_are_refused(data):
    with pytest.raises(LabelError, match="expected labelled data for poisoning"):
        BadNets().poison(data.with_labels(None), run=Run())


def test_a_target_beyond_the_classes_is_refused(data):
    with pytest.raises(OptionError, match="expected a target of 0 to 4, got 5"):
        BadNets(target=5).poison(data, run=Run())


@pytest.mark.parametrize(("rate", "got"), [(0.001, 0), (0.9, 180)])
def test_a_share_that_cannot_be_poisoned_is_refused(data, rate, got):
    with pytest.raises(OptionError, match=f"expected 1 to 160 images to stamp with trigger 0, got {got}"):
        BadNets(poison_rate=rate).poison(data, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"poison_rate": 0.0}, r"expected poison_rate in \(0, 1\), got 0"),
        ({"poison_rate": 1.0}, "got 1"),
        ({"target": -2}, "expected a target of -1 or more, got -2"),
        ({"alpha": 0.0}, r"expected alpha in \(0, 1\] and size of 1 or more, got 0 and 3"),
        ({"size": 0}, "got 1 and 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        BadNets(**wrong)


def test_several_triggers_for_one_target_or_for_one_each(data):
    one = BadNets(triggers=3, poison_rate=0.3, target=1).poison(data, run=Run())
    assert [backdoor.aim.target for backdoor in one.backdoors] == [1, 1, 1]
    three = BadNets(triggers=4, targets=3, poison_rate=0.4, target=1).poison(data, run=Run())
    assert [backdoor.aim.target for backdoor in three.backdoors] == [1, 2, 3, 1]
    assert three.which.bincount().tolist() == [20] * 4
    masks = torch.stack([backdoor.trigger.mask for backdoor in three.backdoors])
    assert masks.sum(0).max() == 1, "a corner each"
    assert torch.equal(masks[0], patch("bottom right").mask), "the first one is where a single one is"


def test_three_triggers_with_a_target_each_succeed(arena):
    made = BadNets(triggers=3, targets=3, poison_rate=0.3, size=4).poison(
        arena.train.select(slice(2000)), run=Run()
    )
    model = arena.clean.copy()
    fit(model, made.data, replace(HOW, epochs=3), run=Run())
    images, truth = arena.test.images, arena.test.labels
    for target, backdoor in enumerate(made.backdoors):
        assert attack_success(model, backdoor.trigger, images, truth, target) >= 0.9
    assert clean_accuracy(model, arena.test) >= arena.accuracy - 0.05


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"triggers": 5}, "expected triggers of 1 to 4 and targets of 1 to as many, got 5 and 1"),
        ({"targets": 2}, "got 1 and 2"),
        ({"triggers": 2, "trigger": patch("top left")}, "got triggers=2 and another of them"),
        ({"triggers": 2, "target": -1}, "or an untargeted attack"),
    ],
)
def test_numbers_of_triggers_that_cannot_be_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        BadNets(**wrong)
