from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import NETS, find_net
from detrojan.models.surgery.units import (
    caught_activity,
    convolutions,
    curve_points,
    last_convolution,
    mean_activity,
    remove_units,
)

#: the layer that the literature prunes
LAST = {"deepid": "conv_4", "wrn_16_1": "block3.layer.1.conv2", "preact_resnet18": "layer4.1.conv2"}


@pytest.mark.parametrize("net", ["deepid", "wrn_16_1", "preact_resnet18", "mnist_cnn", "sign_cnn"])
def test_the_last_convolution_is_found_by_running(net):
    shape = NETS[net].shape
    model = Classifier(find_net(net).build(5, shape), shape)
    layer = last_convolution(model)
    assert layer == LAST.get(net, convolutions(model)[-1].name)
    assert model.module(layer).weight.ndim == 4


def test_a_network_without_convolutions_is_refused_with_its_layers():
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2))
    with pytest.raises(
        ModelError, match="expected a network with a convolutional layer; name a layer out of"
    ):
        last_convolution(model)


def with_norm() -> Classifier:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.copy_(torch.tensor([100.0, 1.0, 1.0]))
        network[1].running_mean.copy_(torch.tensor([200.0, 0.0, 0.0]))
    return Classifier(network, (1, 6, 6))


def test_activity_is_measured_behind_the_norm():
    model = with_norm()
    active = mean_activity(model, torch.full((600, 1, 6, 6), 0.5), "0")
    assert active[0] == 0
    assert active[1:].tolist() == pytest.approx([5.5, 5.5], rel=1e-4)
    with caught_activity(model, ["0"]) as caught:
        model.answers(torch.zeros(2, 1, 6, 6))
    assert caught["0"].shape == (2, 3, 4, 4)
    assert not model.network[1]._forward_hooks


def test_a_removed_unit_says_nothing_behind_the_norm_either():
    model = with_norm()
    remove_units(model, "0", torch.tensor([0, 2]))
    active = mean_activity(model, torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(1)), "0")
    assert active[[0, 2]].tolist() == [0, 0]
    assert active[1] > 0


def test_points_of_a_curve_hold_both_ends():
    assert curve_points(5, 100) == [0, 1, 2, 3, 4, 5]
    assert curve_points(512, 3) == [0, 256, 512]
