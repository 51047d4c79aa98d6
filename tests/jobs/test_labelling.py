"""What the labels and the class names of some data are to a network."""

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.jobs.labelling import with_names, with_usable_labels
from detrojan.models.classifier import Classifier


class _ByShade(nn.Module):
    """Answers with the number that is written into the first pixel."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images):
        shown = (images[:, 0, 0, 0] * 100).round()
        return -self.scale * (shown[:, None] - torch.arange(self.classes).float()).abs()


def network(classes, names=()):
    return Classifier(_ByShade(classes), (1, 4, 4), class_names=tuple(names))


def data(shown, labels, names, *, named=True):
    images = (torch.tensor(shown).float() / 100)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    return Dataset(
        images=images, labels=torch.tensor(labels), class_names=tuple(names), named=named, source="d"
    )


def right(model, images):
    return float((model.answers(images.images) == images.labels).float().mean())


def test_class_folders_get_the_labels_that_the_network_has_for_their_names():
    model = network(3, ["yield", "No entry", "stop"])
    found = data([1, 2, 0], [0, 1, 2], ["no_entry", "stop", "yield"])
    assert right(model, found) == 0
    usable, warnings = with_usable_labels(model, found, strict=True)
    assert (right(model, usable), warnings) == (1, [])
    assert usable.class_names == model.class_names
    assert any("matched with the network's by name: 'no_entry' is label 1" in note for note in usable.notes)


@pytest.mark.parametrize("strict", [True, False])
def test_a_part_that_does_not_match_is_an_error_with_both_lists(strict):
    wanted = r"the data's classes are cow, stop; the network's are yield, no entry, stop; --class-names FILE"
    with pytest.raises(LabelError, match=wanted):
        with_usable_labels(
            network(3, ["yield", "no entry", "stop"]), data([0, 1], [0, 1], ["cow", "stop"]), strict=strict
        )


def test_classes_of_another_task_are_not_used_and_that_is_said():
    model, found = network(3, ["yield", "no entry", "stop"]), data([0, 1], [0, 1], ["cow", "dog"])
    usable, (warning,) = with_usable_labels(model, found)
    assert (usable.labels, usable.class_names) == (None, ())
    assert "the data's classes are cow, dog; the network's are yield, no entry, stop" in warning
    with pytest.raises(LabelError, match="expected the network's classes, got others"):
        with_usable_labels(model, found, strict=True)
    usable, (warning,) = with_usable_labels(network(5), found)
    assert usable.labels is None
    assert "the data's classes are cow, dog; the network has 5 without names" in warning


def test_labels_that_are_numbers_stay_and_names_that_differ_are_said():
    model, found = network(2, ["a", "b"]), data([0, 1], [0, 1], ["c", "d"], named=False)
    usable, (warning,) = with_usable_labels(model, found)
    assert usable.labels.tolist() == [0, 1]
    assert "names of classes differ: the data's classes are c, d; the network's are a, b" in warning
    swapped = data([1, 0], [0, 1], ["b", "a"], named=False)
    assert right(model, with_usable_labels(model, swapped)[0]) == 1


def test_labels_beyond_the_classes_are_left_out():
    found = data([0, 1, 2], [0, 1, 2], [], named=False)
    usable, (warning,) = with_usable_labels(network(2), found)
    assert usable.labels is None
    assert "the labels go up to 2, the network has 2 classes" in warning


def test_names_are_used_for_the_labels_that_they_fit():
    model = network(3)
    with_names(model, data([0, 0, 1, 2, 2], [0, 0, 1, 2, 2], ["ant", "bee", "cat"]))
    assert model.class_names == ("ant", "bee", "cat")
    model = network(3)
    with_names(model, data([0, 2, 1], [0, 1, 2], ["ant", "bee", "cat"]))
    assert model.class_names == ("ant", "1", "2")
    model = network(3)
    with_names(model, data([1, 2, 0], [0, 1, 2], ["ant", "bee", "cat"]))
    assert model.class_names == ()


def test_a_network_that_numbers_its_folders_as_text_is_recognised():
    names = [str(number) for number in range(12)]
    shown = [sorted(names).index(name) for name in names] * 6
    found = data(shown, list(range(12)) * 6, names)
    model = network(12)
    usable, (warning,) = with_names(model, found)
    assert right(model, usable) == 1
    assert model.class_names[2] == "10"
    assert "label 2 is the folder '10'" in warning
    usable, warnings = with_names(network(12), data(list(range(12)) * 6, list(range(12)) * 6, names))
    assert (right(model, usable), warnings) == (1, [])


def test_folders_of_wordnet_ids_need_the_order_of_the_networks_labels():
    found = data([0, 1], [0, 1], ["n01440764", "n02102040"])
    _, (warning,) = with_usable_labels(network(1000), found)
    assert "--class-names with a WordNet id per line" in warning
    assert 'pip install "detrojan[timm]"' in warning
    with pytest.raises(LabelError, match="WordNet id per line, in the order"):
        with_usable_labels(network(1000), found, strict=True)


def test_folders_of_wordnet_ids_are_matched_by_a_known_order(monkeypatch):
    order = tuple(f"n{number:08}" for number in range(1000))
    monkeypatch.setattr("detrojan.jobs.labelling.synsets", lambda classes, names: order)
    found = data([7, 3], [0, 1], ["n00000007", "n00000003"])
    usable, warnings = with_usable_labels(network(1000), found, strict=True)
    assert (usable.labels.tolist(), warnings) == ([7, 3], [])
    assert usable.class_names[7] == "n00000007"
    assert "is label 7" in usable.notes[-1]
