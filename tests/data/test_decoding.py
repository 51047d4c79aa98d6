import io

import numpy as np
import pytest
from PIL import Image

from detrojan.data import decoding
from detrojan.data.decoding import decode, stated_size
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
        ("CMYK", 3, False),
        ("P", 3, False),
        ("1", 1, False),
    ],
)
def test_all_usual_modes_become_grey_or_colour(mode, channels, transparent):
    found = decode(encoded(mode, "JPEG" if mode == "CMYK" else "PNG"), "f")
    assert found.pixels.shape == (5, 7, channels)
    assert found.pixels.dtype == np.uint8
    assert found.size == (5, 7)
    assert found.laid_on_white is transparent


def test_colours_are_kept():
    assert decode(encoded("RGB", colour=(10, 20, 30)), "f").pixels[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (200, 0, 0, 51), [244, 204, 204]),
        ("RGBA", (9, 8, 7, 255), [9, 8, 7]),
        ("LA", (0, 0), [255]),
    ],
)
def test_what_is_transparent_lies_on_white(mode, colour, seen):
    found = decode(encoded(mode, colour=colour), "f")
    assert found.pixels[2, 3].tolist() == seen
    assert found.laid_on_white is (colour[-1] < 255)


def test_a_transparent_colour_of_a_palette_lies_on_white_too():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=0)
    stream.seek(0)
    found = decode(stream, "f")
    assert found.pixels[0, 0].tolist() == [255, 255, 255]
    assert found.pixels[1, 1].tolist() == [10, 20, 30]
    assert found.laid_on_white


def test_sixteen_bits_are_kept():
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    stream.seek(0)
    found = decode(stream, "f").pixels
    assert found.dtype == np.uint16
    assert found[..., 0].tolist() == values.tolist()


def _held(orientation, kind="JPEG"):
    """A picture, white in the upper left corner only, as a camera stores it that was held so."""
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, kind, exif=exif)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "shape", "corner"),
    [
        (1, (16, 32), (0, 0)),
        (2, (16, 32), (0, -1)),
        (3, (16, 32), (-1, -1)),
        (4, (16, 32), (-1, 0)),
        (5, (32, 16), (0, 0)),
        (6, (32, 16), (0, -1)),
        (7, (32, 16), (-1, -1)),
        (8, (32, 16), (-1, 0)),
        (9, (16, 32), (0, 0)),
    ],
)
def test_pictures_stand_as_the_camera_was_held(kind, orientation, shape, corner):
    found = decode(_held(orientation, kind), "f")
    assert found.pixels.shape[:2] == found.size == shape == stated_size(_held(orientation, kind), "f")
    corners = {at: int(found.pixels[at].min()) for at in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert [at for at, value in corners.items() if value > 128] == [corner]
    assert found.turned is (2 <= orientation <= 8)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (6, 6), (level, level, level)) for level in (0, 255)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    stream.seek(0)
    found = decode(stream, "f")
    assert found.animated
    assert found.pixels.max() == 0


def test_a_large_jpeg_is_decoded_small_and_a_little_one_is_not():
    def photo():
        return encoded("RGB", "JPEG", (1600, 1200), (90, 120, 150))

    small = decode(photo(), "f", (100, 100))
    assert small.pixels.shape == (300, 400, 3)
    assert small.size == (1200, 1600)
    assert decode(photo(), "f").pixels.shape == (1200, 1600, 3)
    assert decode(photo(), "f", (700, 700)).pixels.shape == (1200, 1600, 3)
    assert abs(small.pixels.astype(int) - [90, 120, 150]).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF"])
def test_further_formats_of_pictures_are_read(kind):
    if kind not in decoding.FORMATS:
        pytest.skip("this Pillow has no AVIF")
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 90)).save(stream, kind)
    stream.seek(0)
    found = decode(stream, "f")
    assert found.pixels.shape == (6, 8, 3)
    assert abs(found.pixels.astype(int) - [200, 40, 90]).max() <= 4


def test_a_picture_of_a_phone_is_named_with_its_conversion():
    stream = io.BytesIO(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(DataError, match=r"got \.heic; make them PNG or JPEG first"):
        decode(stream, "IMG_1.HEIC")


def test_formats_that_start_programs_are_not_opened():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    with pytest.raises(DataError, match=r"f: expected a picture \(JPEG, PNG, BMP, PPM, WEBP, GIF, TIFF"):
        decode(io.BytesIO(postscript), "f")


def test_a_truncated_picture_is_named():
    whole = encoded("RGB", "JPEG", (64, 64)).getvalue()
    with pytest.raises(DataError, match="image 7: the picture is truncated or damaged"):
        decode(io.BytesIO(whole[: len(whole) // 2]), "image 7")


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 30)
    with pytest.raises(DataError, match="f: expected at most 30 pixels, got 7x5"):
        decode(encoded("RGB"), "f")
