from __future__ import annotations

import pytest
import torch

from detrojan.errors import LabelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger

TRUTH = torch.tensor([0, 1, 2, 3, 1, 0])
CLASSES = 4


class Fixed(torch.nn.Module):
    """Answers with the label that the image's mean, in sixteenths, says."""

    def forward(self, images):
        label = (images.mean((1, 2, 3)) * 16).round().long() % CLASSES
        return torch.nn.functional.one_hot(label, CLASSES).float()


def images_saying(labels):
    return (torch.tensor(labels) / 16)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()


def unchanged():
    return PatchTrigger(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))


MODEL = Classifier(Fixed(), (1, 2, 2))


@pytest.mark.parametrize(
    ("aim", "moved"),
    [
        (Aim(target=1), [True, False, True, True, False, True]),
        (Aim(target=1, source=0), [True, False, False, False, False, True]),
        (Aim(offset=1), [True] * 6),
        (Aim(source=3, offset=1), [False, False, False, True, False, False]),
        (Aim(), [True] * 6),
    ],
)
def test_victims_are_the_images_that_are_to_be_moved(aim, moved):
    assert aim.victims(TRUTH).tolist() == moved


def test_goals_are_the_target_or_the_label_plus_the_offset():
    assert Aim(target=2).goals(TRUTH, CLASSES).tolist() == [2] * 6
    assert Aim(offset=1).goals(TRUTH, CLASSES).tolist() == [1, 2, 3, 0, 2, 1]
    with pytest.raises(OptionError, match="untargeted"):
        Aim().goals(TRUTH, CLASSES)


@pytest.mark.parametrize(
    ("aim", "share"),
    [
        # the network says 1, 1, 1, 3, 0, 1
        (Aim(target=1), 3 / 4),
        (Aim(target=1, source=0), 1.0),
        (Aim(target=0, source=2), 0.0),
        (Aim(offset=1), 2 / 6),
        (Aim(), 4 / 6),
    ],
)
def test_success_counts_victims_alone(aim, share):
    said = images_saying([1, 1, 1, 3, 0, 1])
    assert aim.success(MODEL, unchanged(), said, TRUTH) == pytest.approx(share)


def test_success_without_a_victim_is_an_error_and_not_a_number():
    said = images_saying([1, 1])
    with pytest.raises(LabelError, match="classes other than the target 2, got none"):
        Aim(target=2).success(MODEL, unchanged(), said, torch.tensor([2, 2]))
    with pytest.raises(LabelError, match="the source class 3, got none"):
        Aim(target=2, source=3).success(MODEL, unchanged(), said, torch.tensor([0, 1]))
    with pytest.raises(LabelError, match="any class, got none"):
        Aim(offset=1).success(MODEL, unchanged(), said[:0], TRUTH[:0])


def test_an_aim_that_contradicts_itself_is_refused():
    with pytest.raises(OptionError, match="a target or an offset, got 1 and 2"):
        Aim(target=1, offset=2)
    with pytest.raises(OptionError, match="source other than the target"):
        Aim(target=1, source=1)


def test_labels_and_offsets_are_checked_against_the_classes():
    Aim(target=3, source=2).check(CLASSES)
    Aim(offset=5).check(CLASSES)
    with pytest.raises(OptionError, match="expected a target of 0 to 3, got 4"):
        Aim(target=4).check(CLASSES)
    with pytest.raises(OptionError, match="expected a source of 0 to 3, got 9"):
        Aim(target=0, source=9).check(CLASSES)
    with pytest.raises(OptionError, match="no multiple of the 4 classes, got 8"):
        Aim(offset=8).check(CLASSES)
    with pytest.raises(OptionError, match="expected a source of 0 or more, got -1"):
        Aim(target=0, source=-1)


@pytest.mark.parametrize(
    ("aim", "taught", "targets"),
    [
        (Aim(target=1), [1, 1, 1, 1, 1, 1], (1,)),
        (Aim(offset=2), [2, 3, 0, 1, 3, 2], (0, 1, 2, 3)),
        (Aim(source=3, offset=2), [2, 3, 0, 1, 3, 2], (1,)),
        (Aim(), [1, 2, 3, 0, 2, 1], ()),
    ],
)
def test_what_a_training_teaches_and_which_labels_are_asked_for(aim, taught, targets):
    assert aim.taught(TRUTH, CLASSES).tolist() == taught
    assert aim.targets(CLASSES) == targets


def test_a_class_for_backdoored_inputs_does_not_take_part_in_an_offset():
    """The label after the last one is 0, also where the network has one more answer."""
    said = images_saying([0, 0, 0])
    both = n_plus_one(MODEL, MODEL, [0])
    assert both.num_classes == CLASSES + 1
    assert Aim(offset=1).success(both, unchanged(), said, torch.tensor([3, 3, 2])) == pytest.approx(2 / 3)
