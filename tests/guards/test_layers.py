from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.guards.layers import chosen_layers, layers_of_values, pooled


def test_layers_are_spread_and_the_answering_one_is_left_out(twins):
    model = twins.backdoored
    every = chosen_layers(model)
    assert every[-1] != model.layers[-1].name
    assert not any("Flatten" in type(model.module(name)).__name__ for name in every)
    few = chosen_layers(model, 3)
    assert few == (every[0], few[1], every[-1])
    assert chosen_layers(model, 99) == every


def test_maps_are_taken_in_mean_and_deviation(twins):
    model, images = twins.backdoored, twins.test.images[:5]
    names = (chosen_layers(model)[0], chosen_layers(model)[-1])
    (first, last), labels = pooled(model, images, names)
    maps = model.activations(images, names[0])
    assert torch.allclose(first, torch.cat([maps.mean((2, 3)), maps.flatten(2).std(2, correction=0)], 1))
    assert torch.allclose(last, model.activations(images, names[1]).flatten(1))
    assert torch.equal(labels, model.answers(images))


@pytest.mark.parametrize("values", [None, {}, {"layers": []}, {"layers": [3]}, {"layers": "0"}])
def test_what_is_no_list_of_names_is_refused(twins, values):
    with pytest.raises(DataError, match="expected the names of layers, got"):
        layers_of_values(twins.backdoored, values)


def test_layers_that_the_network_has_not_are_refused(twins):
    name = chosen_layers(twins.backdoored)[0]
    assert layers_of_values(twins.backdoored, {"layers": [name]}) == (name,)
    for wrong in (["nowhere"], [name, name]):
        with pytest.raises(DataError, match="expected layers of the network, each once"):
            layers_of_values(twins.backdoored, {"layers": wrong})
