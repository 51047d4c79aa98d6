from __future__ import annotations

import threading

import torch
from torch import nn

from detrojan.models.layers import Layer, captured, layers_of


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def test_layers_are_told_in_the_order_in_which_they_run():
    model = network()
    found = layers_of(model, lambda: model(torch.zeros(1, 1, 4, 4)))
    assert [layer.kind for layer in found] == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert found[0] == Layer("0", "Conv2d", (2, 2, 2), 2, 20)
    assert not any(module._forward_hooks for module in model.modules())


def test_inputs_and_outputs_of_this_thread_alone_are_captured():
    model, mine, other = network(), torch.zeros(1, 1, 4, 4), torch.ones(2, 1, 4, 4)
    with captured(model[3], inputs=True) as given, captured(model[0]) as out:
        thread = threading.Thread(target=model, args=(other,))
        thread.start()
        thread.join()
        model(mine)
    assert [len(part) for part in given] == [len(part) for part in out] == [1]
    assert torch.equal(out[0], model[0](mine))
    assert torch.equal(given[0], model[2](model[1](out[0])))
