import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.warp import WarpTrigger

SIZE = (9, 12)


def elastic(seed=0, **how):
    return WarpTrigger.elastic(SIZE, generator=torch.Generator().manual_seed(seed), **how)


def images(count=2, channels=3):
    return torch.rand(count, channels, *SIZE, generator=torch.Generator().manual_seed(1))


def test_pixels_come_from_where_the_field_says():
    trigger, clean = elastic(strength=3.0), images()
    across, down = trigger.field.numpy()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    places = [np.clip(rows + down, 0, SIZE[0] - 1), np.clip(columns + across, 0, SIZE[1] - 1)]
    stamped = trigger.stamp(clean)
    for image, got in zip(clean, stamped, strict=True):
        for channel, warped in zip(image.numpy(), got.numpy(), strict=True):
            np.testing.assert_allclose(warped, map_coordinates(channel, places, order=1), atol=1e-5)


def test_a_field_of_whole_pixels_shifts():
    field = torch.zeros(2, *SIZE)
    field[0] = 1
    stamped = WarpTrigger(field).stamp(images())
    torch.testing.assert_close(stamped[..., :-1], images()[..., 1:], atol=1e-5, rtol=0)


def test_one_warp_serves_grey_and_colour_images_and_survives_the_file(tmp_path):
    trigger = elastic()
    assert trigger.stamp(images(channels=1)).shape == (2, 1, *SIZE)
    trigger.save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert torch.equal(loaded.stamp(images()), trigger.stamp(images()))


def test_noise_is_of_each_image_and_at_most_half_a_pixel():
    still = WarpTrigger(torch.zeros(2, *SIZE))
    ramp = (torch.arange(12.0) / 12).expand(3, 1, *SIZE)
    moved = (still.stamp_noisy(ramp, torch.Generator().manual_seed(0)) - ramp) * 12
    assert not torch.equal(moved[0], moved[1])
    assert 0.4 < moved.abs().max() <= 0.5 + 1e-4
    assert 0.2 < moved.abs().mean() < 0.3
    again = still.stamp_noisy(ramp, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, moved / 12 + ramp)


def test_the_picture_is_a_grid_as_the_warp_moves_it():
    still = WarpTrigger(torch.zeros(2, *SIZE)).picture()
    assert still.shape == (3, 198, 264)
    lines = [row for row in range(198) if float(still[0, row].max()) < 0.3]
    assert lines == [row + more for row in range(12, 198, 24) for more in (0, 1)]
    down = torch.zeros(2, *SIZE)
    down[1] = 0.01  # the largest movement is shown as half a cell, however small it is
    torch.testing.assert_close(WarpTrigger(down).picture()[:, :-12], still[:, 12:], atol=1e-3, rtol=0)


def test_broken_fields_and_other_sizes_are_refused():
    with pytest.raises(DataError, match=r"expected displacements \(2, H, W\), got shape \(3, 4, 4\)"):
        WarpTrigger(torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match="expected finite displacements, got NaN or infinity"):
        WarpTrigger(torch.full((2, 4, 4), torch.inf))
    with pytest.raises(DataError, match="expected images of 9x12 as the trigger's, got 12x12"):
        elastic().stamp(torch.zeros(1, 3, 12, 12))
