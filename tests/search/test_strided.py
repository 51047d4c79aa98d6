"""Depthwise convolutions with a stride keep float32 where all else is computed in bfloat16."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search import asking
from detrojan.search.strided import StridedInFull, has_strided_depthwise


def _network(stride=2, groups=8):
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=stride, groups=groups, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("stride", "groups", "found"), [(2, 8, True), (1, 8, False), (2, 1, False)])
def test_only_these_layers_are_computed_in_float32(stride, groups, found):
    network = _network(stride, groups)
    assert has_strided_depthwise(network) is found
    kinds = []
    for layer in (network[0], network[2]):
        layer.register_forward_hook(lambda _layer, _given, out: kinds.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16), StridedInFull():
        network(torch.rand(2, 3, 16, 16))
    assert kinds == [torch.bfloat16, torch.float32 if found else torch.bfloat16]


@pytest.mark.parametrize("words", [{"stride": 2}, {"stride": (1, 2), "padding": 1}])
def test_what_is_computed_is_the_convolution(words):
    images, weight = torch.rand(2, 4, 9, 9).bfloat16(), torch.rand(4, 1, 3, 3).bfloat16()
    with StridedInFull():
        got = functional.conv2d(images, weight, torch.ones(4), groups=4, **words)
    wanted = functional.conv2d(images.float(), weight.float(), torch.ones(4), groups=4, **words)
    assert torch.equal(got, wanted)


def test_a_search_in_bfloat16_asks_so(monkeypatch):
    monkeypatch.setattr(asking, "searches_in_half", lambda run: True)
    model = Classifier(_network(), (3, 16, 16))
    work = asking.Asking(model, Run())
    assert isinstance(work.manner, StridedInFull)
    stamped, wanted = work.flat(torch.rand(6, 3, 16, 16))[None], torch.zeros(1, 6, dtype=torch.long)
    with work.at_work():
        _, _, slope = work.slope(stamped, wanted)
    monkeypatch.setattr(asking, "searches_in_half", lambda run: False)
    work = asking.Asking(model, Run())
    with work.at_work():
        _, _, exact = work.slope(stamped, wanted)
    assert functional.cosine_similarity(slope.flatten(), exact.flatten(), 0) > 0.98
