"""Residual networks: their blocks keep the images where they add nothing, their stages halve the maps."""

import pytest
import torch
from torch import nn

from detrojan.models.residual_nets import PreActResNet18, WideResNet


def _halvings(network, images):
    """Return the sides and channels of the maps after each stage."""
    seen = []
    for name, module in network.named_children():
        if name.startswith(("block", "layer")):
            module.register_forward_hook(lambda _module, _given, maps: seen.append(tuple(maps.shape[1:])))
    network(images)
    return seen


@pytest.mark.parametrize(
    ("network", "maps"),
    [
        (WideResNet(7), [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
        (WideResNet(7, depth=22, width=2), [(32, 32, 32), (64, 16, 16), (128, 8, 8)]),
        (PreActResNet18(7), [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]),
    ],
    ids=["wrn-16-1", "wrn-22-2", "preact-resnet-18"],
)
def test_each_stage_has_the_papers_maps(network, maps, images):
    assert _halvings(network.eval(), images(2, 3, 32, 32)) == maps


def test_depth_is_counted_as_the_papers_do():
    def convolutions(network, *, shortcuts):
        found = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        return sum(shortcuts or module.kernel_size != (1, 1) for module in found)

    assert convolutions(PreActResNet18(), shortcuts=False) + 1 == 18, (
        "the last layer counts, no shortcut does"
    )
    assert [convolutions(WideResNet(depth=depth, width=2), shortcuts=True) for depth in (16, 22)] == [16, 22]


@pytest.mark.parametrize("network", [WideResNet(), PreActResNet18()], ids=["wrn", "preact"])
def test_a_block_without_weights_keeps_its_maps(network, images):
    stage = "block1.layer.1" if isinstance(network, WideResNet) else "layer1.1"
    block = network.get_submodule(stage).eval()
    with torch.no_grad():
        block.conv2.weight.zero_()
    maps = images(2, 16 if isinstance(network, WideResNet) else 64, 8, 8)
    assert torch.equal(block(maps), maps)
