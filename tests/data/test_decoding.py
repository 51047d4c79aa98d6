import io

import numpy as np
import pytest
from PIL import Image

from detrojan.data import decoding
from detrojan.data.decoding import decode, even_channels
from detrojan.errors import DataError


def encoded(mode, kind="PNG", size=(7, 5), colour=None):
    stream = io.BytesIO()
    Image.new(mode, size, color=colour if colour is not None else 0).save(stream, kind)
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize(
    ("mode", "channels", "transparent"),
    [
        ("L", 1, False),
        ("RGB", 3, False),
        ("RGBA", 3, True),
        ("LA", 1, True),
        ("P", 3, False),
        ("1", 1, False),
    ],
)
def test_all_usual_modes_become_grey_or_colour(mode, channels, transparent):
    pixels, dropped = decode(encoded(mode), "f")
    assert pixels.shape == (5, 7, channels)
    assert pixels.dtype == np.uint8
    assert dropped is transparent


def test_colours_are_kept():
    pixels, _ = decode(encoded("RGB", colour=(10, 20, 30)), "f")
    assert pixels[0, 0].tolist() == [10, 20, 30]


def test_more_than_eight_bits_are_refused_not_clipped():
    with pytest.raises(DataError, match="f: expected 8 bits per channel, got pixels of mode I;16"):
        decode(encoded("I;16"), "f")


def test_formats_that_start_programs_are_not_opened():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    with pytest.raises(DataError, match=r"f: expected a picture \(JPEG, PNG, BMP, PPM, WEBP\)"):
        decode(io.BytesIO(postscript), "f")


def test_a_truncated_picture_is_named():
    whole = encoded("RGB", "JPEG", (64, 64)).getvalue()
    with pytest.raises(DataError, match="image 7: the picture is truncated or damaged"):
        decode(io.BytesIO(whole[: len(whole) // 2]), "image 7")


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 30)
    with pytest.raises(DataError, match="f: expected at most 30 pixels, got 7x5"):
        decode(encoded("RGB"), "f")


def test_grey_among_colour_is_repeated_with_a_note():
    grey, colour = np.full((2, 2, 1), 9, np.uint8), np.zeros((2, 2, 3), np.uint8)
    images, notes = even_channels([grey, colour])
    assert images[0].tolist() == np.full((2, 2, 3), 9).tolist()
    assert notes == ["warning: 1 grey images among 2 were repeated into 3 channels"]
    assert even_channels([grey, grey])[1] == []
    assert even_channels([grey, grey])[0][0].shape == (2, 2, 1)
