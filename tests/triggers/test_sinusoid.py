import numpy as np
import pytest
import torch

from detrojan.triggers.base import Trigger
from detrojan.triggers.sinusoid import SinusoidTrigger


def test_the_wave_is_that_of_the_paper(tmp_path):
    trigger = SinusoidTrigger.wave((3, 4, 32), amplitude=0.1, frequency=6)
    wave = 0.1 * np.sin(2 * np.pi * np.arange(32) * 6 / 32)
    assert trigger.change.shape == (3, 4, 32)
    np.testing.assert_allclose(trigger.change, np.broadcast_to(wave, (3, 4, 32)), atol=1e-7)
    grey = torch.full((2, 3, 4, 32), 0.5)
    assert float((trigger.stamp(grey) - 0.5).abs().max()) == pytest.approx(0.1, rel=0.03)
    trigger.save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert isinstance(loaded, SinusoidTrigger)
    assert torch.equal(loaded.change, trigger.change)
