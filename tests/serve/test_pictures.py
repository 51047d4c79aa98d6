"""Pictures become what the model takes, as `detrojan predict` makes them; strange ones are refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detrojan.errors import RefusedError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Framing, Preprocessing
from detrojan.serve.pictures import png, read_picture


def model(channels=3, size=8, framing=None):
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 2))
    return Classifier(network, (channels, size, size), preprocessing=Preprocessing(framing=framing))


def encoded(pixels, kind="PNG", **how):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(stream, kind, **how)
    return stream.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_picture_of_the_right_size_is_taken_as_it_is():
    pixels = noise(8, 8, 3)
    image = read_picture(encoded(pixels), model())
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert png(image[0]) == encoded(pixels)


def test_colours_are_brought_to_the_models():
    grey = noise(8, 8)
    image = read_picture(encoded(grey), model())
    assert torch.equal(image, torch.from_numpy(grey).float().expand(1, 3, 8, 8) / 255)
    colour = noise(8, 8, 3)
    brightness = colour @ np.asarray([0.299, 0.587, 0.114]) / 255
    image = read_picture(encoded(colour), model(1))
    assert np.allclose(image[0, 0], brightness, atol=1e-6)
    assert png(image[0]) is not None


def test_sixteen_bits_keep_their_scale():
    pixels = np.full((8, 8), 65535, dtype=np.uint16)
    assert read_picture(encoded(pixels), model(1)).unique().tolist() == [1.0]


def test_another_size_is_framed_as_the_model_states():
    pixels = noise(20, 10, 3)
    framing = Framing(resize=8, crop=(8, 8))
    expected = Image.fromarray(pixels).resize((8, 16), Image.Resampling.BILINEAR).crop((0, 4, 8, 12))
    image = read_picture(encoded(pixels), model(framing=framing))
    assert np.allclose(image[0].permute(1, 2, 0) * 255, np.asarray(expected), atol=1e-3)
    assert read_picture(encoded(pixels, "JPEG"), model()).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "expected a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0" + bytes(50), "expected a picture"),
        (encoded(noise(8, 8, 3))[:-30], "truncated or damaged"),
        (encoded(noise(8, 8, 3), "JPEG")[:200], "damaged"),
    ],
    ids=["nothing", "another format", "cut png", "cut jpeg"],
)
def test_what_is_no_whole_picture_is_refused(body, says):
    with pytest.raises(RefusedError, match=says) as caught:
        read_picture(body, model())
    assert caught.value.status == 400


def test_a_huge_picture_is_refused_before_it_is_decoded():
    body = encoded(np.zeros((7100, 7100), dtype=np.uint8))
    assert len(body) < 100_000
    with pytest.raises(RefusedError, match="at most 50,000,000 pixels"):
        read_picture(body, model())


def test_strange_channels_make_no_picture():
    assert png(torch.zeros(2, 4, 4)) is None
