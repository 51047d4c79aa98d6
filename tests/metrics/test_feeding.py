"""Which preprocessing a network was trained with is found out by trials, or nothing is said."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.metrics.feeding import ways
from detrojan.metrics.input_range import check_input_range, with_best_range
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import PRESETS, Preprocessing, preset
from detrojan.run import Run
from twins import few_signs


class Undone(nn.Module):
    """Takes images as a preprocessing makes them and gives them to a network of [0, 1]."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        scale, shift = preprocessing.affine(3)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.reverse = preprocessing.channels == "BGR"

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        images = seen.flip(1) if self.reverse else seen
        return self.network((images - self.shift) / self.scale)


def trained_with(model: Classifier, preprocessing: Preprocessing) -> Classifier:
    """The same function of images, as a network that wants this preprocessing, and states [0, 1]."""
    return Classifier(Undone(copy.deepcopy(model.network), preprocessing), model.input_shape)


@pytest.mark.parametrize("name", ["imagenet", "caffe", "clip", "inception", "bytes"])
def test_a_forgotten_preprocessing_is_named_with_its_flag(twins, name):
    for twin in (twins.clean, twins.backdoored):
        model = trained_with(twin, preset(name))
        right = clean_accuracy(model.with_preprocessing(preset(name)), twins.test)
        check = check_input_range(model, twins.test)
        if clean_accuracy(model, twins.test) > right - 0.04:
            assert not check.doubtful, "it does not matter"
            continue
        (warning,) = check.warnings
        assert f"state it with {check.best.flag}" in warning
        fed = model.with_preprocessing(check.best.preprocessing)
        assert clean_accuracy(fed, twins.test) > right - 0.03, "the advice is as good as the truth"
        if name != "inception":
            assert "--input-range -1:1" not in warning


def test_imagenet_s_mean_forgotten_is_noticed_and_named():
    train, test = few_signs(700, 21), few_signs(300, 22)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(32 * 9, 8),
        )  # fmt: skip
    model = Classifier(network, train.shape, preprocessing=preset("imagenet"))
    fit(model, train, Fitting(epochs=8, optimizer="adam", learning_rate=3e-3, batch_size=32), run=Run())
    forgotten = model.with_preprocessing(preset("unit"))
    assert clean_accuracy(forgotten, test) < clean_accuracy(model, test) - 0.2
    for data in (test, test.with_labels(None)):
        check = check_input_range(forgotten, data)
        assert check.best.name == "imagenet"
        (warning,) = check.warnings
        assert "state it with --preprocess imagenet" in warning
        assert "--input-range" not in warning
        assert check.clearly_wrong == (data.labels is not None)
        assert check_input_range(model, data).warnings == ()


def test_batch_norm_tells_what_a_network_was_trained_on(twins):
    inner = trained_with(twins.clean, preset("caffe"))
    seen = inner.with_preprocessing(preset("caffe")).prepare(twins.train.images)
    norm = nn.BatchNorm2d(3, eps=1e-6)
    var, mean = torch.var_mean(seen, (0, 2, 3))
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + 1e-6).sqrt())
        norm.bias.copy_(mean)
    model = Classifier(nn.Sequential(norm, inner.network), inner.input_shape)
    for data in (twins.test, twins.test.with_labels(None)):
        check = check_input_range(model, data)
        assert check.best.name == "caffe"
        assert "--preprocess caffe" in check.warnings[0]
        right = check_input_range(model.with_preprocessing(preset("caffe")), data)
        assert not right.doubtful


def test_a_network_that_takes_blue_first_is_noticed(twins):
    model = trained_with(twins.clean, replace(preset("unit"), channels="BGR"))
    check = check_input_range(model, twins.test)
    assert check.best.preprocessing.channels == "BGR"
    assert check.best.flag.endswith("--bgr")
    fed, again = with_best_range(model, twins.test)
    assert again.best.flag == check.best.flag
    assert clean_accuracy(fed, twins.test) > clean_accuracy(twins.clean, twins.test) - 0.03


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_nothing_is_said_of_a_network_that_does_not_care(labelled):
    train, test = few_signs(700, 21), few_signs(300, 22)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.InstanceNorm2d(3), nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(32 * 5 * 5, 8),
        )  # fmt: skip
    model = Classifier(network, train.shape)
    fit(model, train, Fitting(epochs=12, optimizer="adam", learning_rate=3e-3, batch_size=32), run=Run())
    assert clean_accuracy(model, test) > 0.7
    data = test if labelled else test.with_labels(None)
    for preprocessing in (preset("unit"), preset("bytes"), preset("inception")):
        assert check_input_range(model.with_preprocessing(preprocessing), data).warnings == ()


def test_a_difference_that_luck_can_make_is_none(twins):
    model = trained_with(twins.clean, preset("imagenet"))
    many = check_input_range(model, twins.test)
    few = check_input_range(model, twins.test.select(slice(0, 6)))
    assert many.doubtful
    assert not any("behaves as if" in text for text in few.warnings)


def test_what_is_tried_depends_on_the_network(twins):
    names = [way.name for way in ways(twins.clean)]
    assert names[:4] == ["0..1", "0..255", "cifar10", "cifar10_per_image"], "a small network, in colour"
    assert {"imagenet", "caffe", "clip", "-1..1 ", "0..255 BGR", "imagenet BGR"} - set(names) == {"-1..1 "}
    assert "mnist" not in names
    stated = twins.clean.with_preprocessing(preset("imagenet"))
    assert len(ways(stated)) == 1
    assert len(ways(stated, every=True)) == len(names)

    class Grey(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :10]

    grey = [way.flag for way in ways(Classifier(Grey(), (1, 28, 28)))]
    assert "--preprocess mnist" in grey
    assert not any("imagenet" in flag or "bgr" in flag for flag in grey)
    assert set(PRESETS) >= {"imagenet", "inception", "cifar10", "cifar100", "clip", "gtsrb", "caffe", "mnist"}
