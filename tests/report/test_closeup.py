import torch

from detrojan.report.closeup import FIELD, LEVELS, SIDE, closeup
from detrojan.triggers.patch import PatchTrigger


def patch(values, opacity=1.0, side=2):
    """Return a patch in the middle of an image of noise, under which nothing else is stamped."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 6 : 6 + side, 6 : 6 + side] = opacity
    pattern = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    pattern[:, 6 : 6 + side, 6 : 6 + side] = values
    return PatchTrigger(mask, pattern)


def test_a_dark_patch_stands_out_from_the_board():
    view = closeup(patch(0.0))
    assert view.shape == (3, SIDE, SIDE), "a patch of 2 pixels and one around it, 36 times as large"
    inside = view[:, 36:108, 36:108]
    assert float(inside.max()) == 0
    outside = view[:, :36]
    assert {round(float(value), 2) for value in outside.unique()} == set(LEVELS)
    assert view[0, 0, 0] != view[0, 0, FIELD]


def test_the_pattern_shows_where_the_mask_is_and_nowhere_else():
    view = closeup(patch(torch.tensor([1.0, 0.0, 0.0])[:, None, None]))
    assert view[:, 50, 50].tolist() == [1, 0, 0]
    assert torch.equal(view[0, :36], view[1, :36]), "the board is grey"


def test_a_faint_patch_is_drawn_at_full_strength():
    assert torch.allclose(closeup(patch(1.0, opacity=0.2)), closeup(patch(1.0)))


def test_a_mask_of_nothing_and_one_of_everything_are_drawn_whole():
    nothing, everything = torch.zeros(1, 16, 16), torch.ones(1, 16, 16)
    for mask in (nothing, everything):
        assert closeup(PatchTrigger(mask, torch.rand(3, 16, 16))).shape == (3, SIDE, SIDE)


def test_grey_patches_and_large_ones_keep_their_channels_and_size():
    large = PatchTrigger(torch.ones(1, 200, 300), torch.rand(1, 200, 300))
    assert closeup(large).shape == (1, 200, 300)
