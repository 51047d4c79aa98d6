from __future__ import annotations

import pytest
import torch

from detrojan.attacks.dynamic import Dynamic
from detrojan.attacks.pruning_aware import PruningAware
from detrojan.errors import OptionError


@pytest.mark.parametrize("kind", [Dynamic, PruningAware])
def test_images_move_by_so_many_pixels_and_no_further(kind):
    image = torch.zeros(1, 1, 15, 15)
    image[..., 7, 7] = 1
    moved = kind(shift_pixels=3).shifted()(image.expand(400, 1, 15, 15), torch.Generator().manual_seed(0))
    places = moved.nonzero()[:, 2:] - 7
    assert (places.amin(), places.amax()) == (-3, 3)
    assert kind(shift_pixels=0).shifted() is None


def test_a_shift_below_none_is_refused():
    with pytest.raises(OptionError, match="expected shift_pixels of 0 or more, got -1"):
        Dynamic(shift_pixels=-1)
