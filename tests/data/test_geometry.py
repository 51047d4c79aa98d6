import numpy as np
import pytest

from detrojan.data.geometry import crop_boxes, resample
from detrojan.errors import DataError, OptionError


def test_boxes_are_moved_from_the_original_frame_to_the_image():
    roi = np.array([[64, 128, 8, 16, 56, 112]])
    assert crop_boxes(roi, [(32, 32)], "f") == [(4, 4, 28, 28)]


@pytest.mark.parametrize("box", [(8, 8, 8, 20), (0, 0, 65, 20), (-1, 0, 9, 9)])
def test_a_box_outside_its_frame_is_refused(box):
    with pytest.raises(DataError, match="f: expected a region within the frame of 64x64, got"):
        crop_boxes(np.array([[64, 64, *box]]), [(32, 32)], "f")


def test_roi_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"expected roi \(N, 6\)"):
        crop_boxes(np.zeros((3, 4)), [(2, 2)] * 3, "f")


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cut_without_scaling_is_exact(dtype, channels):
    image = np.arange(8 * 8 * channels).reshape(1, 8, 8, channels).astype(dtype)
    cut = resample(image, (4, 2), [(3, 2, 5, 6)])
    assert np.array_equal(cut[0], image[0, 2:6, 3:5])


def test_a_halved_checkerboard_is_grey():
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 200).astype(np.uint8)[None, ..., None]
    small = resample(board, (4, 4))
    assert small.shape == (1, 4, 4, 1)
    assert np.all(np.abs(small[0, 1:3, 1:3].astype(int) - 100) <= 1)


@pytest.mark.parametrize("size", [(0, 4), (4, 5000)])
def test_a_size_that_makes_no_sense_is_refused(size):
    with pytest.raises(OptionError, match="expected a size of 1 to 4096 pixels, got"):
        resample(np.zeros((1, 2, 2, 1), np.uint8), size)


def test_images_of_different_sizes_are_brought_to_one():
    images = [np.zeros((2, 2, 3), np.uint8), np.zeros((4, 2, 3), np.uint8)]
    assert resample(images, (3, 3)).shape == (2, 3, 3, 3)
