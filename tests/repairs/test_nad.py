from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import NETS, find_net
from detrojan.repairs.nad import NAD, attention, attention_layers
from detrojan.run import Run
from detrojan.store import digest

#: a small network for plain signs bears it, a DeepID does not
STRONG = NAD(learning_rate=5e-3, updates=90)


@pytest.fixture(scope="module")
def repaired(case):
    """Repair the backdoored network; equal teachers are trained once."""
    teach, teachers = NAD.teach, {}

    def taught_once(self, network, *given, title, **more):
        if title != "NAD: teacher":
            return teach(self, network, *given, title=title, **more)
        if self.learning_rate in teachers:
            network.network.load_state_dict(teachers[self.learning_rate])
            return []
        history = teach(self, network, *given, title=title, **more)
        teachers[self.learning_rate] = copy.deepcopy(network.network.state_dict())
        return history

    def repair(plan):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NAD, "teach", taught_once)
            return plan.repair(case.twins.backdoored, case.data, [], run=Run(seed=2))

    return repair


@pytest.fixture(scope="module")
def made(repaired):
    return repaired(STRONG)


def test_the_attacker_s_trigger_works_far_less_without_being_known(case, made):
    assert case.true_success(made.model) < 0.8
    assert case.accuracy(made.model) >= case.accuracy(case.twins.backdoored) - 0.05


def test_the_attention_comes_closer_to_the_teacher_s_than_training_alone_brings_it(made, repaired):
    loose = repaired(dataclasses.replace(STRONG, beta=0.0))
    assert made.steps[0].details["distance after"] / loose.steps[0].details["distance after"] < 1
    before = [one.steps[0].details["distance before"] for one in (made, loose)]
    assert before[0] == pytest.approx(before[1], rel=1e-4)  # another copy in memory may be summed otherwise
    assert before[0] > 0


def test_a_clean_network_loses_hardly_anything(case):
    made = NAD(updates=100).repair(case.twins.clean, case.data, [], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(case.twins.clean) - 0.04


def test_the_maps_are_sums_over_channels_of_length_one():
    active = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    wanted = functional.normalize((active**2).sum(1).reshape(2, 4), dim=1)
    assert torch.allclose(attention(active, 2.0), wanted)
    assert torch.allclose(attention(active * 7, 2.0), wanted)


def test_the_layers_are_the_last_ones_at_each_resolution():
    model = Classifier(find_net("wrn_16_1").build(5, NETS["wrn_16_1"].shape), NETS["wrn_16_1"].shape)
    assert attention_layers(model) == [f"block{n}.layer.1.conv2" for n in (1, 2, 3)]
    deepid = Classifier(find_net("deepid").build(5, NETS["deepid"].shape), NETS["deepid"].shape)
    assert attention_layers(deepid) == ["conv_2", "conv_3", "conv_4"]
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2))
    with pytest.raises(ModelError, match="expected a network with convolutions, whose attention"):
        attention_layers(flat)


def test_the_statistics_of_batch_norms_are_trained_too(case, normed):
    before = digest(normed.network)
    few = case.data.select(slice(64))
    made = NAD(epochs=1, norm_updates=2).repair(normed, few.with_labels(None), [], run=Run())
    assert digest(normed.network) == before
    own, given = made.model.network.state_dict(), normed.network.state_dict()
    means = [name for name in given if name.endswith("running_mean")]
    assert means
    assert not any(torch.equal(own[name], given[name]) for name in means)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in made.model.network.modules())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"beta": -1.0}, "expected beta of 0 or more and power above 0, got -1 and 2"),
        ({"power": 0.0}, "power above 0, got 100 and 0"),
        ({"shift_pixels": -1}, "norm_shift_pixels of 0 or more, got 200, 400, -1, 4"),
        ({"epochs": 0}, "expected epochs of 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        NAD(**wrong)
