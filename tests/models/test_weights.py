"""A file's tensors become those of a network: without a second copy, and none shared by accident."""

import pytest
import torch
from torch import nn

from detrojan.errors import WeightsError
from detrojan.models.nets import find_net
from detrojan.models.weights import Architecture, check_finite, fit


def _tensors():
    net = find_net("sign_cnn")
    network = net.build(5, net.shape)
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _fitted(tensors):
    return fit(tensors, Architecture(net="sign_cnn"), "net.pt").network


def test_values_that_need_no_change_are_taken_as_they_lie_in_memory():
    tensors = _tensors()
    state = _fitted(tensors).state_dict()
    assert {name: value.data_ptr() for name, value in state.items()} == {
        name: value.data_ptr() for name, value in tensors.items()
    }
    assert all(torch.equal(value, tensors[name]) for name, value in state.items())


def test_what_lies_elsewhere_in_memory_or_in_another_type_is_copied():
    tensors = _tensors()
    names = [name for name, value in tensors.items() if value.ndim == 4]
    wide = torch.zeros(2, *tensors[names[0]].shape)
    wide[0] = tensors[names[0]]
    given = {**tensors, names[0]: wide[0], names[1]: tensors[names[1]].half()}
    network = _fitted(given)
    assert torch.equal(network.get_parameter(names[0]), tensors[names[0]])
    assert network.get_parameter(names[0]).untyped_storage().nbytes() == wide[0].nbytes
    assert network.get_parameter(names[1]).dtype == torch.float32


def test_two_keys_of_one_place_become_two_tensors():
    tensors = _tensors()
    biases = [name for name, value in tensors.items() if name.endswith("bias")]
    alike = next(
        (one, other)
        for one in biases
        for other in biases
        if one < other and tensors[one].shape == tensors[other].shape
    )
    tensors[alike[1]] = tensors[alike[0]]
    network = _fitted(tensors)
    with torch.no_grad():
        network.get_parameter(alike[0]).add_(1)
    assert not torch.equal(network.get_parameter(alike[0]), network.get_parameter(alike[1]))


class _Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(self.second(self.first(images)).mean((2, 3)))


def tied():
    return _Tied()


def test_tensors_that_a_factory_ties_stay_tied():
    tensors = {name: value.detach().clone() for name, value in _Tied().state_dict().items()}
    asked = Architecture(factory=f"{__name__}:tied", input_shape=(3, 8, 8))
    network = fit(tensors, asked, "net.pt").network
    assert network.first.weight is network.second.weight


def test_the_check_for_finite_values_looks_at_every_piece(monkeypatch):
    monkeypatch.setattr("detrojan.models.weights._PIECE", 4)
    values = torch.zeros(3, 5)
    check_finite({"weight": values}, "net.pt")
    values[2, 4] = torch.inf
    with pytest.raises(WeightsError, match="1 NaN or infinite of 15 values"):
        check_finite({"weight": values}, "net.pt")
