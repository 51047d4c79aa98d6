"""A rewritten network answers as before, and is another one inside."""

from __future__ import annotations

import math

import pytest
import torch
from torch import fx, nn

from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.search import rewriting
from detrojan.search.asking import Asking, quick
from detrojan.search.rewriting import TiledConvolution, rewritten


def network(name: str) -> nn.Module:
    """Return a network with batch norms that change something."""
    net = find_net(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = net.build(net.classes, net.shape)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return made.eval().requires_grad_(requires_grad=False)


def asked(made: nn.Module, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen = sample.clone().requires_grad_(True)
    logits = made(seen)
    (slope,) = torch.autograd.grad(logits.log_softmax(1)[:, 0].sum(), seen)
    return logits.detach(), slope


@pytest.mark.parametrize(
    "name", ["deepid", "badnets_cnn", "small_vgg", "wrn_16_1", "sign_cnn", "five_conv_cnn"]
)
def test_logits_and_slopes_stay(name):
    made = network(name)
    sample = torch.rand(5, *find_net(name).shape, generator=torch.Generator().manual_seed(2))
    sample = sample.to(memory_format=torch.channels_last)
    logits, slope = asked(made, sample)
    again = rewritten(made, sample, by_tiles=True)
    assert isinstance(again, fx.GraphModule)
    assert any(isinstance(module, TiledConvolution) for module in again.modules())
    now, by_pixel = asked(again, sample)
    torch.testing.assert_close(now, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_pixel, slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))


class Conv2dSame(nn.Conv2d):
    """Pads by its input's size, as a library's convolution does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        more = [max(0, (math.ceil(size / 2) - 1) * 2 + 3 - size) for size in images.shape[2:]]
        padded = nn.functional.pad(images, (more[1] // 2, -(-more[1] // 2), more[0] // 2, -(-more[0] // 2)))
        return nn.functional.conv2d(
            padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class NormAct(nn.BatchNorm2d):
    """A batch norm with its rectifier, as a library writes it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU6()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        torch._assert(maps.ndim == 4, f"expected 4 axes, got {maps.ndim}")
        return self.act(
            nn.functional.batch_norm(
                maps, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps
            )
        )


def _of_a_library() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [
            nn.Sequential(Conv2dSame(3 if depth == 0 else 16, 16, 3, stride=2, bias=False), NormAct(16))
            for depth in range(3)
        ]
        made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.weight, 0.5, 2)
    return made.eval().requires_grad_(requires_grad=False)


def test_norms_with_their_rectifier_are_folded_into_convolutions_that_pad_themselves():
    made, sample = _of_a_library(), torch.rand(2, 3, 25, 25, generator=torch.Generator().manual_seed(2))
    logits, slope = asked(made, sample)
    again = rewritten(made, sample, by_tiles=False)
    assert isinstance(again, fx.GraphModule)
    assert not [m for m in again.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [n for n in again.graph.nodes if n.target is nn.functional.batch_norm]
    now, by_pixel = asked(again, sample)
    torch.testing.assert_close(now, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_pixel, slope, rtol=1e-3, atol=1e-4 * float(slope.abs().max()))


def test_a_value_that_rounding_carries_over_a_corner_does_not_count(monkeypatch):
    made, sample = _of_a_library(), torch.rand(2, 3, 25, 25, generator=torch.Generator().manual_seed(2))
    exact = rewriting._slope

    def rounded(network: nn.Module, seen: torch.Tensor) -> torch.Tensor:
        found = exact(network, seen)
        if seen.dtype == torch.float32 and isinstance(network, fx.GraphModule):
            found[0] += found.abs().max() / 100
        return found

    monkeypatch.setattr(rewriting, "_slope", rounded)
    assert isinstance(rewritten(made, sample, by_tiles=False), fx.GraphModule)
    monkeypatch.setattr(rewriting, "_slope", lambda network, seen: rounded(network, seen.float()))
    assert rewritten(made, sample, by_tiles=False) is made


def test_batch_norms_behind_convolutions_are_folded_and_rectifiers_come_after_pooling():
    sample = torch.rand(2, 3, 32, 32)
    vgg = rewritten(network("small_vgg"), sample, by_tiles=False)
    assert not [m for m in vgg.modules() if isinstance(m, nn.BatchNorm2d)]
    face = rewritten(network("deepid"), torch.rand(2, 3, 55, 47), by_tiles=False)
    assert isinstance(face, fx.GraphModule)
    called = [str(node.target) for node in face.graph.nodes]
    assert called.index("conv_1") + 1 == called.index("pool"), called


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "padding", "shape"), [(3, 1, (9, 8)), (5, 0, (11, 13)), (4, 2, (7, 7))])
def test_the_slope_by_tiles_is_the_slope(channels, size, padding, shape):
    layer = nn.Conv2d(channels, 6, size, padding=padding).requires_grad_(requires_grad=False)
    images = torch.rand(3, channels, *shape)
    logits, slope = asked(nn.Sequential(layer, nn.Flatten()), images)
    now, by_pixel = asked(nn.Sequential(TiledConvolution(layer), nn.Flatten()), images)
    torch.testing.assert_close(now, logits)
    torch.testing.assert_close(by_pixel, slope)


class Shared(nn.Module):
    """One convolution with a batch norm behind it, used once with it and once without."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.layer(self.norm(self.layer(images)))
        return maps.mean((2, 3))


class Choosing(nn.Module):
    """Does one thing or another, as the images say: such a network cannot be traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return means if float(images.sum()) > 0 else -means


def test_what_cannot_be_rewritten_stays_as_it_is():
    sample = torch.rand(2, 3, 8, 8)
    shared = Shared().eval()
    logits, slope = asked(shared, sample)
    now, by_pixel = asked(rewritten(shared, sample, by_tiles=True), sample)
    torch.testing.assert_close(now, logits)
    torch.testing.assert_close(by_pixel, slope)
    choosing = Choosing()
    assert rewritten(choosing, sample, by_tiles=True) is choosing


def test_a_search_s_copy_is_rewritten_and_the_network_given_is_not():
    model = Classifier(network("small_vgg"), (3, 32, 32), preprocessing=Preprocessing(high=255.0))
    asking = Asking(model, Run(float32=True))
    assert isinstance(asking.model.network, fx.GraphModule)
    assert [m for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [m for m in model.network.modules() if isinstance(m, TiledConvolution)]


def test_a_quick_copy_answers_the_same_and_the_network_given_is_as_before():
    model = Classifier(network("small_vgg"), (3, 32, 32), preprocessing=Preprocessing(high=255.0))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    copy = quick(model)
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(copy.all_logits(images), model.all_logits(images), rtol=1e-3, atol=1e-4)
    assert not [m for m in copy.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
