import numpy as np
import pytest

from detrojan.data.pixels import Scale, choose_scale, parse_range
from detrojan.errors import DataError, OptionError, RangeError


def pixels(*values, dtype=np.float32):
    return np.asarray(values, dtype=dtype).reshape(1, -1, 1, 1)


def read(*values, dtype=np.float32, stated=None, **options):
    array = pixels(*values, dtype=dtype)
    scale = choose_scale(array, stated, "f", **options)
    return scale.apply(array).ravel().tolist(), scale.notes


def test_bytes_are_divided_by_255():
    values, notes = read(0, 51, 255, dtype=np.uint8)
    assert values == pytest.approx([0, 0.2, 1])
    assert notes == ("uint8 / 255",)


def test_bytes_of_zero_and_one_are_doubted_aloud():
    values, notes = read(0, 1, dtype=np.uint8)
    assert values[1] == pytest.approx(1 / 255)
    assert notes[1].startswith("warning: uint8 values of at most 1")
    assert read(0, 1, dtype=np.uint8, stated=(0, 1))[0] == [0, 1]


def test_floats_stay_and_rounding_is_clipped():
    values, notes = read(0, 0.25, 1 + 1e-7, dtype=np.float64)
    assert values == [0, 0.25, 1]
    assert notes == ("float64 in [0, 1]",)


def test_floats_beyond_one_need_a_stated_range():
    text = r"f: expected images in \[0, 1\], got max 255; state the range with --data-range 0-255"
    with pytest.raises(RangeError, match=text):
        read(0, 255)
    assert read(0, 255, 51, stated=(0, 255))[0] == pytest.approx([0, 1, 0.2])
    with pytest.raises(RangeError, match=r"got min -1, max 1; state the range with --data-range=-1\.\.1"):
        read(-1, 1)
    assert read(-1, 0, 1, stated=(-1, 1))[0] == pytest.approx([0, 0.5, 1])
    with pytest.raises(RangeError, match="got max 1000; state the range with --data-range LOW-HIGH"):
        read(0, 1000)


def test_a_stated_range_that_the_values_contradict_is_an_error_that_says_both():
    with pytest.raises(RangeError, match=r"expected images in \[0, 1\] as stated, got max 255"):
        read(0, 255, dtype=np.uint8, stated=(0, 1))
    with pytest.raises(RangeError, match=r"expected images in \[0, 255\] as stated, got min -3, max 9"):
        read(-3, 9, stated=(0, 255))
    with pytest.raises(OptionError, match="expected a range low before high, got 1 to 0"):
        read(0, 1, stated=(1, 0))


def test_a_stated_range_of_which_little_is_used_is_doubted_aloud():
    assert read(0, 1, stated=(0, 255))[1][1].startswith("warning: values reach only 1 of the stated 0..255")


def test_other_integers_are_bytes_or_need_a_range():
    values, notes = read(0, 255, dtype=np.int64)
    assert values == [0, 1]
    assert notes == ("int64 taken for 0..255 and divided by 255",)
    for wrong in ((0, 1), (0, 4095), (-1, 200)):
        with pytest.raises(RangeError, match=rf"got int32 from {wrong[0]} to {wrong[1]}; state the range"):
            read(*wrong, dtype=np.int32)
    assert read(0, 4095, dtype=np.int32, stated=(0, 4095))[0] == [0, 1]


def test_bytes_in_floats_only_where_that_is_known():
    values, notes = read(0, 255, bytes_in_floats=True)
    assert values == [0, 1]
    assert "as the contest's files hold it" in notes[0]
    assert read(0, 1, bytes_in_floats=True)[0] == [0, 1]
    with pytest.raises(RangeError, match="got max 300"):
        read(0, 300, bytes_in_floats=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stated", [None, (0, 255)])
def test_values_that_are_not_finite_are_refused(bad, stated):
    with pytest.raises(RangeError, match="expected finite pixel values, got NaN or infinity"):
        read(0, bad, stated=stated)


def test_what_is_not_numbers_or_has_no_pixels_is_refused():
    with pytest.raises(DataError, match="expected images of numbers, got <U1"):
        choose_scale(np.full((1, 2, 2, 1), "a"), None, "f")
    with pytest.raises(DataError, match="expected images with pixels"):
        choose_scale(np.zeros((1, 0, 2, 1)), None, "f")


def test_black_and_white_masks_are_zero_and_one():
    assert read(False, True, dtype=np.bool_)[0] == [0, 1]


def test_applying_a_scale_leaves_the_input_alone():
    array = pixels(0, 2)
    Scale(0, 2, ()).apply(array)
    assert array.ravel().tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-255", (0, 255)), ("0..1", (0, 1)), ("-1-1", (-1, 1)), ("-1..1", (-1, 1)), ("0,4095.5", (0, 4095.5))],
)
def test_ranges_are_read_as_people_write_them(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["255", "1-0", "a-b", "", "1-1", "0-.", "0-1-2"])
def test_other_ranges_are_refused(text):
    with pytest.raises(OptionError, match="expected a range such as 0-255, low before high, got"):
        parse_range(text)
