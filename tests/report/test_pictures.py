import base64
import io

import pytest
import torch
from PIL import Image

from detrojan.errors import DataError
from detrojan.report.pictures import (
    GAP,
    contact_sheet,
    data_uri,
    heat,
    pictures_of,
    png,
    stamped_rows,
    trigger_pictures,
)
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


def opened(content):
    return Image.open(io.BytesIO(content))


def test_small_images_are_enlarged_by_whole_pixels():
    image = torch.zeros(3, 2, 4)
    image[0, 0, 0] = 1
    picture = opened(png(image, side=128))
    assert picture.size == (256, 128)
    assert picture.getpixel((63, 63)) == (255, 0, 0)
    assert picture.getpixel((64, 63)) == (0, 0, 0)


def test_large_images_keep_their_size_and_grey_stays_grey():
    picture = opened(png(torch.full((1, 200, 150), 0.5)))
    assert (picture.size, picture.mode) == ((150, 200), "L")
    assert picture.getpixel((0, 0)) == 128


def test_values_that_are_no_colours_are_drawn_all_the_same():
    picture = opened(png(torch.tensor([[[float("nan"), -3.0, 7.0, float("inf")]]]), side=1))
    assert [picture.getpixel((x, 0)) for x in range(4)] == [0, 0, 255, 255]


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4), (1, 3, 4, 4)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(DataError, match=r"expected an image \(C, H, W\) of 1 or 3 channels, got shape"):
        png(torch.zeros(shape))


def test_a_sheet_has_rows_of_columns():
    images = torch.stack([torch.full((1, 8, 8), n / 6) for n in range(7)])
    sheet = opened(contact_sheet(images, columns=3, side=16))
    assert sheet.size == (3 * 16 + 2 * GAP, 3 * 16 + 2 * GAP)
    assert sheet.getpixel((0, 16 + GAP)) == (128, 128, 128)  # the fourth image, 3/6
    assert sheet.getpixel((2 * (16 + GAP), 2 * (16 + GAP))) == (128, 128, 128)  # nothing there


def test_an_empty_sheet_is_refused():
    with pytest.raises(DataError, match=r"expected images \(N, C, H, W\) to draw"):
        contact_sheet(torch.zeros(0, 3, 8, 8))


def test_stamped_images_stand_below_their_originals():
    images = torch.zeros(3, 3, 32, 32)
    trigger = PatchTrigger.corner((3, 32, 32), size=8, where="top left", margin=0, pixels="white")
    sheet = opened(stamped_rows(images, trigger.stamp(images), side=64))
    assert sheet.size == (3 * 64 + 2 * GAP, 2 * 64 + GAP)
    assert sheet.getpixel((5, 5)) == (0, 0, 0)
    assert sheet.getpixel((5, 64 + GAP + 5)) == (255, 255, 255)
    with pytest.raises(DataError, match="of one shape"):
        stamped_rows(images, images[:2])


def test_heat_grows_with_the_mask():
    colours = heat(torch.tensor([[0.0, 0.1, 0.5, 1.0]]))
    assert colours.shape == (3, 1, 4)
    brightness = colours.sum(0)[0]
    assert (brightness.diff() > 0).all()
    assert brightness[1] - brightness[0] > 0.1


def test_a_patch_has_all_pictures_and_its_mask_shows_where():
    trigger = PatchTrigger.corner((3, 32, 32), size=4, margin=0)
    drawn = trigger_pictures(trigger, torch.zeros(9, 3, 32, 32), examples=6)
    assert len(drawn.examples) == 6
    assert opened(drawn.examples[0].picture).size == (96, 2 * 96 + GAP)
    assert opened(drawn.trigger).size == (145, 145), (
        "the patch of 4 pixels and one around it, 29 times as large"
    )
    mask = opened(drawn.mask)
    assert mask.size == (128, 128)
    assert sum(mask.getpixel((127, 127))) > sum(mask.getpixel((0, 0)))
    assert trigger_pictures(trigger).examples == ()


def test_other_triggers_show_what_they_have():
    class Tint(Trigger):
        def stamp(self, images):
            return images.clamp(min=0.5)

        def state(self):
            return {}, {}

        @classmethod
        def from_state(cls, tensors, values):
            return cls()

        def picture(self):
            return torch.full((1, 8, 8), 0.5)

    drawn = trigger_pictures(Tint(), torch.zeros(2, 1, 8, 8))
    assert drawn.mask is None
    assert opened(drawn.examples[0].picture).getpixel((0, 96 + GAP)) == (128, 128, 128)


def test_only_findings_with_a_trigger_are_drawn(made):
    _, result = made.make_scan(10, (3,))
    assert list(pictures_of(result.findings)) == [3]


def test_a_data_address_holds_the_same_bytes():
    content = png(torch.zeros(1, 4, 4))
    head, _, tail = data_uri(content).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(tail) == content
