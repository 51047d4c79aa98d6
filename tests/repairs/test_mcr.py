from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.errors import OptionError
from detrojan.learning.fitting import fit
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.repairs.mcr import MCR, Curve, put, weights_of
from detrojan.run import Run
from detrojan.store import digest
from kept import trained_once
from margins import shifted
from twins import CLASSES, HOW, LARGE


@pytest.fixture(scope="module")
def planted(case) -> Classifier:
    """Return a network with batch norms, trained on the twins' poisoned data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(4))
        blocks = [[nn.Conv2d(a, b, 5), nn.BatchNorm2d(b), nn.ReLU()] for a, b in ((3, 16), (16, 32))]
        last = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, CLASSES))
        network = nn.Sequential(*blocks[0], nn.MaxPool2d(2), *blocks[1], *last)
    model, data = Classifier(network, LARGE), case.twins.poisoned.data
    return trained_once(model, lambda: fit(model, data, HOW, run=Run(seed=4)), data, HOW)


@pytest.fixture(scope="module")
def made(case, planted):
    known = replace(case.finding, trigger=case.twins.trigger)
    plan = MCR(epochs=2, norm_updates=100, norm_rate=0.05, batch_size=32)
    return plan.repair(planted, case.data, [known], run=Run(seed=2))


def test_the_attacker_s_trigger_dies_without_being_used(case, planted, made):
    assert case.true_success(planted) > 0.9
    assert case.true_success(made.model) < 0.3
    assert case.accuracy(made.model) >= case.accuracy(planted) - 0.05


def test_every_network_on_the_curve_answers_right(made):
    curves = made.steps[0].curves
    assert made.steps[0].details["fitting"]["optimizer"] == "sgd"
    assert curves["place on the curve"] == pytest.approx([n / 10 for n in range(11)])
    assert min(curves["clean accuracy"]) > 0.85
    assert len(curves["attack success"]) == 11


def test_a_clean_network_loses_hardly_anything(case):
    plan = MCR(epochs=2, learning_rate=1e-3, updates=0)
    made = plan.repair(case.twins.clean, case.data, [], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(case.twins.clean) - 0.02
    assert digest(made.model.network) != digest(case.twins.clean.network)


def test_the_curve_passes_through_its_ends_and_is_drawn_to_its_control_point():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        nets = [find_net("badnets_cnn").build(CLASSES, LARGE).eval() for _ in range(3)]
    start, middle, end = nets
    curve = Curve(middle, weights_of(start), weights_of(end)).eval()
    images = torch.rand(3, *LARGE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for place, net in ((0.0, start), (1.0, end)):
            curve.place = place
            assert torch.allclose(curve(images), net(images), atol=1e-5)
        name = "0.weight"
        wanted = sum(
            part * dict(net.named_parameters())[name]
            for part, net in zip((0.25, 0.5, 0.25), nets, strict=True)
        )
        assert torch.allclose(curve.weights(0.5)[name], wanted)
        put(middle, curve.weights(0.0))
        assert torch.allclose(middle(images), start(images), atol=1e-5)


def test_a_network_with_batch_norms_is_given_statistics_of_its_own_and_works_without_labels(case):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        parts = (nn.Conv2d(LARGE[0], 4, 5, stride=4), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(CLASSES))
        network = nn.Sequential(*parts)
        network(torch.zeros(2, *LARGE))
    model = Classifier(network.eval(), LARGE)
    before = digest(model.network)
    plan = MCR(epochs=1, norm_updates=4)
    made = plan.repair(model, case.data.select(slice(64)).with_labels(None), [], run=Run())
    assert digest(model.network) == before
    assert set(made.steps[0].curves) == {"place on the curve", "agreement"}
    norm = made.model.network[1]
    assert (norm.momentum, norm.training) == (0.1, False)
    # that many batches of 64 images, and their plain mean: what the convolution gives on images like these
    assert int(norm.num_batches_tracked) == 4
    with torch.no_grad():
        given = made.model.network[0](case.data.images[:64]).mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, given, atol=0.15)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"place": 1.5}, r"expected a place in \[0, 1\], got 1.5"),
        ({"shift_pixels": -1}, "shift_pixels and norm_shift_pixels of 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate above 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        MCR(**wrong)
