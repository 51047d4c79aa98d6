import numpy as np
import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.quantise import QuantiseTrigger


def images():
    return torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))


def floyd_steinberg(channel, levels):
    """The textbook loop, over one channel of one image."""
    work = channel.astype(np.float64).copy()
    height, width = work.shape
    for row in range(height):
        for column in range(width):
            wanted = work[row, column]
            got = np.clip(np.round(wanted * (levels - 1)), 0, levels - 1) / (levels - 1)
            work[row, column] = got
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if row + down < height and 0 <= column + right < width:
                    work[row + down, column + right] += (wanted - got) * share / 16
    return work


def test_dithering_is_that_of_the_textbook():
    clean = images()
    got = QuantiseTrigger(4).stamp(clean)
    expected = np.stack([[floyd_steinberg(channel, 4) for channel in image] for image in clean.numpy()])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert torch.equal(clean, images()), "the input is unchanged"


def test_dithering_keeps_the_mean_where_rounding_loses_it():
    grey = torch.full((1, 1, 32, 32), 0.4)
    assert QuantiseTrigger(2).stamp(grey).mean() == pytest.approx(0.4, abs=0.02)
    assert QuantiseTrigger(2, dither=False).stamp(grey).mean() == 0


def test_it_survives_the_file_and_shows_its_levels(tmp_path):
    for dither in (True, False):
        trigger = QuantiseTrigger(5, dither=dither)
        trigger.save(tmp_path / "t.safetensors")
        loaded = Trigger.load(tmp_path / "t.safetensors")
        assert torch.equal(loaded.stamp(images()), trigger.stamp(images()))
        assert len(trigger.picture().unique()) == 5


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"levels": 1, "dither": 0}, "expected 2 to 255 levels, got 1"),
        ({"levels": 2.5, "dither": 0}, "expected a whole number of levels, got 2.5"),
        ({"levels": 10**400, "dither": 0}, "expected a number levels, got 1000"),
        ({"levels": 8}, "expected a number dither, got None"),
    ],
)
def test_a_hostile_file_is_checked_like_any_input(values, text):
    with pytest.raises(DataError, match=text):
        QuantiseTrigger.from_state({}, values)
