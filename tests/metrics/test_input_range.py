from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.metrics.input_range import check_input_range
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from twins import SHAPE, few_signs, trained

UNIT, BYTES, SIGNED = (
    Preprocessing(),
    Preprocessing(low=0, high=255),
    Preprocessing(low=-1, high=1),
)


@pytest.fixture(scope="module")
def bytes_net() -> Classifier:
    """A network that was trained on 0..255."""
    return trained(few_signs(1200, 1), 0, BYTES)


def for_range(model: Classifier, preprocessing: Preprocessing) -> Classifier:
    """The same function of images in [0, 1], as a network that wants another range."""
    network = copy.deepcopy(model.network)
    span = preprocessing.high - preprocessing.low
    with torch.no_grad():
        first = network[0]
        first.bias -= (first.weight * preprocessing.low / span).sum((1, 2, 3))
        first.weight /= span
    return Classifier(network, model.input_shape, preprocessing=preprocessing)


def unlabelled(data: Dataset) -> Dataset:
    return data.with_labels(None)


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_the_right_range_raises_no_doubt(twins, bytes_net, labelled):
    data = twins.test if labelled else unlabelled(twins.test)
    signed = for_range(twins.clean, SIGNED)
    assert clean_accuracy(signed, twins.test) == pytest.approx(
        clean_accuracy(twins.clean, twins.test), abs=0.01
    )
    for model in (twins.clean, twins.backdoored, bytes_net, signed):
        check = check_input_range(model, data)
        assert not check.doubtful
        assert check.warnings == ()
        assert check.best is check.stated
        assert (check.stated.low, check.stated.high) == (model.preprocessing.low, model.preprocessing.high)
        assert check.labels_fit == labelled


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_a_net_of_0_to_255_that_is_fed_0_to_1_is_noticed(twins, bytes_net, labelled):
    data = twins.test if labelled else unlabelled(twins.test)
    for model in (bytes_net, for_range(twins.clean, BYTES)):
        check = check_input_range(model.with_preprocessing(UNIT), data)
        assert check.doubtful
        assert check.best.name == "0..255"
        assert (
            "input range: the network is fed 0..1, but behaves as if trained on 0..255" in check.warnings[0]
        )
        assert "--input-range 0:255" in check.warnings[0]


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_a_net_of_0_to_1_that_is_fed_0_to_255_is_noticed(twins, labelled):
    data = twins.test if labelled else unlabelled(twins.test)
    for model in (twins.clean, twins.backdoored):
        check = check_input_range(model.with_preprocessing(BYTES), data)
        assert check.doubtful
        assert check.best.name == "0..1"
        assert "is fed 0..255, but behaves as if trained on 0..1" in check.warnings[0]


def test_a_stated_mean_is_taken_as_it_is(twins):
    stated = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    check = check_input_range(twins.clean.with_preprocessing(stated), twins.test)
    assert [trial.name for trial in check.trials] == ["0..1"], "other ranges would mean another mean, too"


def test_the_figures_of_a_trial_are_what_they_say(twins):
    (trial, *_) = check_input_range(twins.clean, twins.test).trials
    some = twins.test.select(torch.linspace(0, len(twins.test) - 1, 512).long())
    logits = twins.clean.all_logits(some.images)
    top = logits.sort(1, descending=True)
    assert trial.accuracy == pytest.approx(clean_accuracy(twins.clean, some))
    assert trial.top_share == pytest.approx(float(logits.argmax(1).bincount().max()) / 512)
    assert trial.confidence == pytest.approx(float(logits.softmax(1).amax(1).mean()), rel=1e-5)
    assert trial.margin == pytest.approx(float((top.values[:, 0] - top.values[:, 1]).median()), rel=1e-5)
    assert 8 >= trial.effective_answers > 7, "eight classes, evenly drawn"


def test_labels_beyond_the_classes_mean_nothing(twins):
    check = check_input_range(twins.clean, twins.test.with_labels(twins.test.labels + 5))
    assert not check.labels_fit
    assert check.stated.accuracy is None
    assert not check.doubtful


def test_labels_of_strangers_mean_nothing(twins):
    shuffled = twins.test.labels[torch.randperm(len(twins.test), generator=torch.Generator().manual_seed(1))]
    check = check_input_range(twins.clean, twins.test.with_labels(shuffled))
    assert not check.labels_fit
    assert not check.doubtful


class Stubborn(nn.Module):
    """Answers label 2, whatever it is fed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 0.1, 2.0, 0.3]).expand(len(images), 4) + 0 * images.sum()


def test_a_network_that_gives_one_answer_to_everything_is_no_classifier(twins):
    check = check_input_range(Classifier(Stubborn(), SHAPE), unlabelled(twins.test))
    (warning,) = check.warnings
    assert "whatever is fed, one label gets 100% of the answers" in warning
    assert "the preprocessing or the data do not fit this network" in warning


def test_data_that_are_mostly_of_one_class_are_no_reason_for_doubt(twins):
    order = torch.cat([(twins.test.labels == 5).nonzero().flatten(), torch.arange(20)])
    check = check_input_range(twins.clean, twins.test.select(order))
    assert check.stated.top_share > 0.6
    assert not check.doubtful
