import numpy as np
import pytest
import torch
from scipy.fft import dctn

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.low_frequency import LowFrequencyTrigger


def drawn(shape=(3, 20, 32), band=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return LowFrequencyTrigger.drawn(shape, amplitude=0.1, band=band, generator=generator)


def test_the_signal_lies_in_the_lowest_cosines_and_has_no_mean():
    signal = drawn().change
    spectrum = np.abs(dctn(signal.numpy(), axes=(1, 2), norm="ortho"))
    assert spectrum[:, :4, :4].max() > 0.1
    spectrum[:, :4, :4] = 0
    assert spectrum.max() < 1e-5
    assert signal.abs().max() == pytest.approx(0.1)
    assert signal.mean((1, 2)).abs().max() < 1e-6
    assert not torch.equal(signal[0], signal[1]), "each channel has its own"


def test_it_survives_the_file(tmp_path):
    drawn().save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert isinstance(loaded, LowFrequencyTrigger)
    assert torch.equal(loaded.change, drawn().change)


@pytest.mark.parametrize("band", [1, 21])
def test_a_band_that_does_not_fit_is_refused(band):
    with pytest.raises(DataError, match=f"expected a band of 2 to 20 frequencies, got {band}"):
        drawn(band=band)
