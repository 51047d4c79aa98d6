"""The network is asked in bfloat16 where that is fast, and in float32 where it is not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from detrojan.run import Run
from detrojan.search import asking
from detrojan.search.asking import Asking
from detrojan.search.pace import Pace


@pytest.fixture
def stamped(twins):
    return twins.test.images[:24].permute(0, 2, 3, 1).reshape(3, 8, -1).contiguous()


def by_hand(model, stamped, wanted):
    channels, height, width = model.input_shape
    pixels = stamped.view(-1, height, width, channels).permute(0, 3, 1, 2).requires_grad_(True)
    losses = functional.cross_entropy(model.logits(pixels), wanted.flatten(), reduction="none")
    (slope,) = torch.autograd.grad(losses.sum() / stamped.shape[1], pixels)
    return losses.view(wanted.shape).mean(1).detach(), slope.permute(0, 2, 3, 1).reshape(stamped.shape)


@pytest.mark.parametrize(
    ("fast", "float32", "half"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_bfloat16_is_used_where_it_is_fast_and_not_refused(twins, monkeypatch, fast, float32, half):
    monkeypatch.setattr(asking, "bfloat16_is_fast", lambda _device: fast)
    assert Asking(twins.clean, Run(float32=float32)).half is half


def test_in_float32_loss_and_slope_are_the_networks_own(twins, stamped):
    wanted = torch.full((3, 8), 2)
    losses, slope = by_hand(twins.clean, stamped.clone(), wanted)
    _, found, by_pixel = Asking(twins.clean, Run(float32=True)).slope(stamped, wanted)
    torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_pixel, slope, rtol=1e-3, atol=1e-5)


def test_in_bfloat16_they_point_the_same_way(twins, stamped, monkeypatch):
    monkeypatch.setattr(asking, "bfloat16_is_fast", lambda _device: True)
    wanted = torch.full((3, 8), 2)
    losses, slope = by_hand(twins.clean, stamped.clone(), wanted)
    asked = Asking(twins.clean, Run())
    _, found, by_pixel = asked.slope(stamped, wanted)
    assert by_pixel.dtype == found.dtype == torch.float32
    torch.testing.assert_close(found, losses, rtol=0.05, atol=0.05)
    assert functional.cosine_similarity(by_pixel.flatten(), slope.flatten(), dim=0) > 0.98
    assert not torch.equal(found, losses)


def test_the_pace_is_measured_once_for_a_network(twins, monkeypatch):
    measured = []

    def find(work, device):
        work(16)
        measured.append(device)
        return Pace(samples=64, threads=torch.get_num_threads())

    monkeypatch.setattr(asking, "find_pace", find)
    model = twins.clean.copy()
    assert [Asking(model, Run()).pace.samples for _ in range(2)] == [64, 64]
    assert len(measured) == 1
    Asking(model.copy(), Run())
    assert len(measured) == 2


def test_what_was_interrupted_goes_on_at_its_own_pace(twins, tmp_path, monkeypatch):
    paces = iter([Pace(samples=64, threads=1), Pace(samples=16, threads=1), Pace(samples=256, threads=1)])
    monkeypatch.setattr(asking, "find_pace", lambda _work, _device: next(paces))
    kept = Run(checkpoint=tmp_path)
    assert Asking(twins.clean.copy(), kept).pace.samples == 64
    assert Asking(twins.clean.copy(), kept).pace.samples == 64, "another process would find it there"
    assert Asking(twins.backdoored.copy(), kept).pace.samples == 16, "another network has its own"
    assert Asking(twins.clean.copy(), Run()).pace.samples == 256


def test_at_work_the_network_is_judging_and_the_threads_are_the_measured_ones(twins):
    ready, before = Asking(twins.clean, Run()), torch.get_num_threads()
    ready.pace = Pace(samples=64, threads=before + 1)
    ready.model.network.train()
    with ready.at_work():
        assert not ready.model.network.training
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
