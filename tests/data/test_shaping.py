"""Pictures of any size become the network's as a training pipeline of Pillow makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from detrojan.data.geometry import framed, needs_framing
from detrojan.data.reading import read_data
from detrojan.errors import DataError
from detrojan.models.preprocessing import Framing

PHOTOS = ((300, 400), (281, 233), (250, 250), (97, 640))


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture with edges and noise, (H, W, C) uint8."""
    random = np.random.default_rng(height)
    rows, columns = np.indices((height, width))
    waves = 90 * np.sin(rows / 9)[..., None] * np.cos(columns / 13)[..., None]
    image = 128 + waves + random.integers(-40, 40, (height, width, channels))
    return image.clip(0, 255).astype(np.uint8)


def by_hand(image: np.ndarray, side: int, crop: int, kind: Image.Resampling) -> np.ndarray:
    """Resize the shorter side and cut the centre out, as training scripts do it with Pillow."""
    picture = Image.fromarray(image)
    width, height = picture.size
    if width <= height:
        width, height = side, int(side * height / width)
    else:
        width, height = int(side * width / height), side
    picture = picture.resize((width, height), kind)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return np.asarray(picture.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", PHOTOS)
def test_the_shorter_side_and_a_crop_are_what_pillow_makes(interpolation, size):
    image = photo(*size)
    found = framed(image, Framing(resize=256, crop=(224, 224), interpolation=interpolation))
    wanted = by_hand(image, 256, 224, Image.Resampling[interpolation.upper()])
    assert found.dtype == np.uint8
    assert np.array_equal(found, wanted)


def test_both_sides_are_what_pillow_makes_and_floats_come_close():
    image = photo(300, 400)
    found = framed(image, Framing(resize=(32, 48), interpolation="bicubic"))
    wanted = Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(found, np.asarray(wanted))
    floats = framed(image.astype(np.float32), Framing(resize=(32, 48), interpolation="bicubic"))
    assert floats.dtype == np.float32
    assert np.abs(floats - found).max() <= 1, "bytes are rounded"


def test_without_antialias_nothing_is_smoothed():
    image = photo(300, 400)
    found = framed(image, Framing(resize=(30, 40), antialias=False))
    wanted = functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), (30, 40), mode="bilinear"
    )
    assert np.abs(found - wanted[0].permute(1, 2, 0).numpy()).max() <= 0.5
    smooth = framed(image, Framing(resize=(30, 40)))
    assert found.std() > 1.1 * smooth.std(), "noise stays"


def test_what_a_crop_lacks_is_black():
    image = np.full((10, 10, 1), 200, dtype=np.uint8)
    found = framed(image, Framing(resize=10, crop=(14, 10)))
    assert found.shape == (14, 10, 1)
    assert found[:2].max() == found[-2:].max() == 0
    assert found[2:-2].min() == 200


def test_a_picture_of_absurd_proportions_is_refused():
    with pytest.raises(DataError, match="expected pictures of usual proportions, got one of 1x4000"):
        framed(np.zeros((1, 4000, 1), np.uint8), Framing(resize=256, crop=(224, 224)))


def test_only_what_has_another_size_is_framed():
    stated, assumed = Framing(resize=10, crop=(8, 8)), Framing.usual((8, 8))
    right, wrong = (8, 8), (9, 8)
    for sizes, by_statement, by_default in (
        ({right}, False, False),
        ({wrong}, True, True),
        ({right, wrong}, True, True),
    ):
        assert needs_framing(sizes, stated) == by_statement
        assert needs_framing(sizes, assumed) == by_default


@pytest.fixture
def folder(tmp_path):
    for number, size in enumerate(PHOTOS):
        Image.fromarray(photo(*size)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_folder_of_photos_is_read_as_the_network_states(folder):
    framing = Framing(resize=256, crop=(224, 224), interpolation="bicubic")
    data = read_data(folder, framing=framing)
    wanted = np.stack([by_hand(photo(*size), 256, 224, Image.Resampling.BICUBIC) for size in PHOTOS])
    found = data.images.permute(0, 2, 3, 1).numpy()
    assert np.abs(found - wanted / 255).max() < 1 / 255
    assert data.notes[-1] == (
        "pictures of 4 different sizes are resized to 256 (bicubic) and cropped to 224x224, "
        "as the network's preprocessing says"
    )


def test_an_assumed_framing_is_said_and_a_size_goes_before_it(folder, caplog):
    data = read_data(folder, framing=Framing.usual((224, 224)))
    assert data.shape == (3, 224, 224)
    assert "are resized to 256 (bilinear) and cropped to 224x224, as is usual" in data.notes[-1]
    assert "nothing says how this network's own are prepared" in caplog.text
    small = read_data(folder, framing=Framing.usual((32, 32)))
    assert "are resized to 32x32 (bilinear), as is usual" in small.notes[-1]
    chosen = read_data(folder, framing=Framing.usual((224, 224)), resize=(64, 48))
    assert chosen.shape == (3, 64, 48)
    assert chosen.notes[-1] == "resized from 4 different sizes to 64x48, bilinear"


def test_on_a_guess_a_small_picture_stays_whole(tmp_path):
    image = photo(150, 120)
    Image.fromarray(image).save(tmp_path / "small.png")
    data = read_data(tmp_path / "small.png", framing=Framing.usual((224, 224)))
    whole = Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR)
    assert np.array_equal((data.images[0] * 255).round().byte().permute(1, 2, 0), whole)
    Image.fromarray(photo(300, 400)).save(tmp_path / "large.png")
    both = read_data(tmp_path, framing=Framing.usual((224, 224)))
    assert "are resized to 224x224 (bilinear) or resized to 256 (bilinear) and cropped" in both.notes[-1]
    assert any(np.array_equal(image, data.images[0]) for image in both.images), "the same in any company"


def test_quite_other_proportions_are_no_guess(tmp_path):
    Image.fromarray(photo(60, 200)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"within a factor of 2 of 32 high x 32 wide, .* --resize 32x32"):
        read_data(tmp_path / "wide.png", framing=Framing.usual((32, 32)))
    stated = read_data(tmp_path / "wide.png", framing=Framing(resize=32, crop=(32, 32)))
    assert stated.shape == (3, 32, 32)


def test_regions_of_interest_are_brought_to_the_network_s_size(tmp_path):
    roi = np.tile([20, 30, 5, 4, 15, 24], (2, 1))
    np.savez(tmp_path / "d.npz", images=np.stack([photo(30, 20), photo(30, 20)]), roi=roi)
    data = read_data(tmp_path / "d.npz", framing=Framing.usual((16, 16)), crop=True)
    cut = Image.fromarray(photo(30, 20)).resize((16, 16), Image.Resampling.BILINEAR, box=(5, 4, 15, 24))
    assert np.array_equal((data.images[0] * 255).round().byte().permute(1, 2, 0), cut)
