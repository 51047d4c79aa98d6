"""Pruned units stay silent behind a batch norm."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.findings import Finding
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.models.surgery.units import remove_units
from detrojan.repairs.prune import Prune
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger


def noisy(network: nn.Module) -> nn.Module:
    """Give batch norms the statistics and the scales of a trained network, away from 0 and 1."""
    chance = torch.Generator().manual_seed(6)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name in ("running_mean", "weight", "bias"):
                tensor = getattr(module, name)
                if tensor is not None:
                    tensor.data = torch.randn(tensor.shape, generator=chance)
            module.running_var = torch.rand(module.running_var.shape, generator=chance) + 0.5
    return network.eval()


def tiny(*between: nn.Module, affine: bool = True) -> Classifier:
    """A convolution "0" whose batch norm comes last before the head."""
    norm = nn.BatchNorm2d(8, affine=affine)
    layers = [nn.Conv2d(3, 8, 3, padding=1), *between, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Classifier(noisy(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4))), (3, 16, 16))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "between",
    [
        (),
        (nn.ReLU,),
        (partial(nn.ReLU, inplace=True),),
        (nn.ELU, nn.Dropout),
        (nn.ReLU, partial(nn.MaxPool2d, 2)),
    ],
    ids=["conv-norm", "conv-relu-norm", "in place", "conv-elu-dropout-norm", "conv-relu-pool-norm"],
)
def test_a_pruned_unit_is_silent_behind_its_batch_norm(between, affine):
    model = tiny(*(make() for make in between), affine=affine)
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    norm = str(1 + len(between))
    before = model.activations(images, norm)
    remove_units(model, "0", torch.tensor([2, 5]))
    after = model.activations(images, norm)
    kept = [unit for unit in range(8) if unit not in {2, 5}]
    assert before[:, [2, 5]].any()
    assert not after[:, [2, 5]].any()
    torch.testing.assert_close(after[:, kept], before[:, kept])


def test_a_batch_norm_further_down_is_left_alone():
    norm = nn.BatchNorm2d(8)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        norm,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    model = Classifier(noisy(network), (3, 16, 16))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    remove_units(model, "0", torch.arange(8))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_units_of_a_vgg_are_silent_after_the_repair():
    """From the outside: a trigger that works on an untrained network, and the layer's norm afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        network = noisy(find_net("small_vgg").build(5, (3, 32, 32)))
    model = Classifier(network, (3, 32, 32))
    chance = torch.Generator().manual_seed(2)
    data = Dataset(torch.rand(40, 3, 32, 32, generator=chance))
    trigger = PatchTrigger(torch.ones(32, 32), torch.zeros(3, 32, 32))
    clean, stamped = (
        model.all_logits(images).mean(0) for images in (data.images, trigger.stamp(data.images))
    )
    model.module(model.head).bias.data -= (clean + stamped) / 2
    label = int((stamped - clean).argmax())
    finding = Finding(label=label, anomaly_index=3, attack_success=1, flagged=True, trigger=trigger)
    made = Prune(layer="features.0", success=0, drop=1).repair(model, data, [finding], run=Run())
    units = made.steps[0].details["units"]
    assert units, "the trigger works, so something is pruned"
    assert not made.model.activations(data.images, "features.1")[:, units].any()
    assert model.activations(data.images, "features.1")[:, units].any()
