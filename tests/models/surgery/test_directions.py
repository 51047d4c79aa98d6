from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.models.classifier import Classifier
from detrojan.models.surgery.directions import Moments, moments, shrink, weighted


class _EvenConv(nn.Conv2d):
    """A convolution that pads its input itself, more behind than in front."""

    def forward(self, input):  # noqa: A002 - the name in nn.Conv2d
        return super().forward(functional.pad(input, (1, 2, 1, 2)))


def moments_of(rows):
    """Return the moments of rows (N, D), as they are summed batch by batch."""
    parts = [Moments(count=len(some), total=some.sum(0).double(), rows=some) for some in rows.split(7)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def ridge(rows, weight, bias, penalty):
    """Return the weights and biases that answer the rows as the layer does, with a penalty on the weights."""
    ones = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
    wanted = rows.double() @ weight.double().T + bias.double()
    held = torch.full((ones.shape[1],), penalty * len(rows), dtype=torch.float64)
    held[-1] = 0
    found = torch.linalg.solve(ones.T @ ones + held.diag(), ones.T @ wanted).T
    return found[:, :-1], found[:, -1]


@pytest.mark.parametrize("count", [200, 9])  # more and fewer rows than the 12 dimensions
def test_shrinking_is_the_ridge_regression_of_the_layer_s_own_answers(count):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, 12, generator=generator) * torch.logspace(0, -2, 12) + 3
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    layer = model.module("1")
    before = (layer.weight.detach().clone(), layer.bias.detach().clone())
    summed = moments_of(rows)
    assert (summed.rows is None) == (count > 12)
    found = summed.directions(centred=True)
    usual = float(rows.double().var(0, correction=0).mean())
    shrink(model, "1", found, 0.5)
    weight, bias = ridge(rows, *before, 0.5 * usual)
    torch.testing.assert_close(layer.weight.double(), weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.bias.double(), bias, atol=1e-4, rtol=1e-4)


def test_the_answer_to_the_mean_input_stays(case_of_rows):
    model, rows = case_of_rows
    before = model.network(rows.mean(0).view(1, 3, 2, 2)).detach()
    shrink(model, "1", moments_of(rows).directions(centred=True), 2.0)
    torch.testing.assert_close(model.network(rows.mean(0).view(1, 3, 2, 2)), before, atol=1e-5, rtol=1e-4)


@pytest.fixture
def case_of_rows():
    rows = torch.rand(50, 12, generator=torch.Generator().manual_seed(1))
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)), rows


def test_inputs_that_never_vary_leave_the_bias_alone():
    rows = torch.full((30, 12), 0.5)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    before = model.network(rows[:1].view(1, 3, 2, 2)).detach()
    shrink(model, "1", moments_of(rows).directions(centred=True), 1.0)
    assert float(model.module("1").weight.detach().abs().max()) < 1e-6
    torch.testing.assert_close(model.network(rows[:1].view(1, 3, 2, 2)), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, (3, 2), stride=2, bias=False),
        nn.Conv2d(2, 3, 3, dilation=2, padding="same"),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        _EvenConv(2, 3, 4, stride=2),
    ],
    ids=["padded", "strided", "dilated", "reflected", "keras"],
)
def test_a_convolution_s_inputs_are_its_patches_as_it_pads_them_itself(layer):
    network = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(4))
    network(torch.zeros(1, 2, 7, 7))
    model = Classifier(network, (2, 7, 7))
    images = torch.rand(10, 2, 7, 7, generator=torch.Generator().manual_seed(2))
    one = moments(model, images, ["0"], torch.Generator())["0"]
    answers = layer(images).detach().double().transpose(0, 1).flatten(1)
    assert one.count == answers.shape[1]  # all positions of so small a map
    summed = layer.weight.detach().flatten(1).double() @ one.total
    offset = 0 if layer.bias is None else layer.bias.detach().double() * one.count
    torch.testing.assert_close(summed + offset, answers.sum(1), atol=1e-4, rtol=1e-4)


def test_few_positions_are_drawn_of_a_large_map_and_nothing_is_changed():
    model = Classifier(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(648, 4)), (1, 20, 20))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    images = torch.rand(6, 1, 20, 20, generator=torch.Generator().manual_seed(2))
    drawn = [moments(model, images, ["0"], torch.Generator().manual_seed(seed))["0"] for seed in (0, 0, 1)]
    assert [one.count for one in drawn] == [6 * 64] * 3
    assert torch.equal(drawn[0].total, drawn[1].total)
    assert not torch.equal(drawn[0].total, drawn[2].total)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


def test_inputs_are_taken_before_the_network_changes_them_in_place():
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images):
            flat = images.flatten(1).clone()
            hidden = self.first(flat)
            return self.last(hidden + flat.zero_())

    images = torch.rand(9, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    found = moments(Classifier(Overwriting(), (1, 2, 2)), images, ["first"], torch.Generator())["first"]
    torch.testing.assert_close(found.total, images.flatten(1).sum(0).double())


def test_layers_are_found_in_the_order_in_which_they_run():
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(8, 3)
            self.grouped = nn.Conv2d(2, 2, 1, groups=2)
            self.norm = nn.BatchNorm2d(2)
            self.first = nn.Conv2d(1, 2, 3)

        def forward(self, images):
            return self.last(functional.relu(self.grouped(self.norm(self.first(images)))).flatten(1))

    assert weighted(Classifier(Turned(), (1, 4, 4))) == ["first", "last"]
