import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.patch import PatchTrigger


def images(channels=3, size=8):
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_stamping_blends_by_the_mask_and_leaves_the_input_alone():
    clean = images()
    before = clean.clone()
    mask = torch.zeros(8, 8)
    mask[0, 0], mask[0, 1] = 1, 0.25
    stamped = PatchTrigger(mask, torch.full((3, 8, 8), 0.8)).stamp(clean)
    assert clean.equal(before)
    assert torch.allclose(stamped[:, :, 0, 0], torch.tensor(0.8))
    assert torch.allclose(stamped[:, :, 0, 1], 0.75 * clean[:, :, 0, 1] + 0.25 * 0.8)
    assert stamped[:, :, 1:].equal(clean[:, :, 1:])


@pytest.mark.parametrize(
    ("where", "rows", "columns"),
    [
        ("top left", (1, 4), (1, 4)),
        ("top right", (1, 4), (4, 7)),
        ("bottom left", (4, 7), (1, 4)),
        ("bottom right", (4, 7), (4, 7)),
    ],
)
def test_a_corner_patch_lies_where_it_should(where, rows, columns):
    patch = PatchTrigger.corner((1, 8, 8), where=where, pixels="white")
    inside = torch.zeros(8, 8)
    inside[slice(*rows), slice(*columns)] = 1
    assert patch.mask[0].equal(inside)
    assert patch.stamp(torch.zeros(1, 1, 8, 8))[0, 0].equal(inside)
    assert patch.l1 == 9


def test_a_checkerboard_alternates_and_alpha_is_its_opacity():
    patch = PatchTrigger.corner((1, 5, 5), margin=1, alpha=0.5)
    assert patch.pattern[0, 1:4, 1:4].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert patch.stamp(torch.full((1, 1, 5, 5), 0.4))[0, 0, 1, 1:3].tolist() == pytest.approx([0.7, 0.2])
    assert patch.picture()[0, 1, 1:4].tolist() == [0.5, 0, 0.5]


def test_corners_that_do_not_exist_are_refused():
    with pytest.raises(DataError, match="expected a patch of 1 to 7 pixels, got 8"):
        PatchTrigger.corner((1, 8, 8), size=8)
    with pytest.raises(DataError, match="expected a patch of 1 to 7 pixels, got 0"):
        PatchTrigger.corner((1, 8, 8), size=0)
    with pytest.raises(DataError, match=r"expected a corner .*got 'middle' and 'white'"):
        PatchTrigger.corner((1, 8, 8), where="middle", pixels="white")
    with pytest.raises(DataError, match="pixels white or checker, got 'top left' and 'red'"):
        PatchTrigger.corner((1, 8, 8), where="top left", pixels="red")
    with pytest.raises(DataError, match=r"expected a mask in \[0, 1\], got 0 to 2"):
        PatchTrigger.corner((1, 8, 8), alpha=2)


def test_a_picture_is_placed_with_its_own_opacity():
    rgba = torch.tensor([0.9, 0.5, 0.1, 0.5]).view(4, 1, 1).expand(4, 2, 3)
    patch = PatchTrigger.picture_patch(rgba, (3, 8, 8), top=5, left=1)
    stamped = patch.stamp(torch.zeros(1, 3, 8, 8))
    assert stamped[0, :, 6, 3].tolist() == pytest.approx([0.45, 0.25, 0.05])
    assert stamped[0, :, 5:7, 1:4].sum() == pytest.approx(float(stamped.sum()))
    assert patch.l1 == pytest.approx(3)


@pytest.mark.parametrize(("top", "left"), [(7, 0), (0, 6), (-1, 0)])
def test_a_picture_that_does_not_fit_is_refused(top, left):
    with pytest.raises(DataError, match=f"fits into 8x8 at row {top}, column {left}, got \\(4, 2, 3\\)"):
        PatchTrigger.picture_patch(torch.zeros(4, 2, 3), (3, 8, 8), top=top, left=left)


def test_images_of_another_shape_are_refused():
    with pytest.raises(
        DataError, match=r"expected images of shape \(3, 8, 8\) as the trigger's, got \(1, 8, 8\)"
    ):
        PatchTrigger.corner((3, 8, 8)).stamp(images(1))


def test_gradients_flow_through_the_stamp():
    clean = images().requires_grad_()
    PatchTrigger.corner((3, 8, 8), alpha=0.25).stamp(clean).sum().backward()
    assert clean.grad[0, 0, 0, 0] == 1
    assert clean.grad[0, 0, -2, -2] == pytest.approx(0.75)
