import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.blend import BlendTrigger
from detrojan.triggers.pieces import PiecesTrigger


def test_only_the_pieces_shown_are_blended():
    trigger = PiecesTrigger(torch.ones(1, 4, 6), 0.5, pieces=4)
    shown = torch.tensor([[True, False, False, True], [False, False, True, False]])
    stamped = trigger.stamp_some(torch.zeros(2, 1, 4, 6), shown)
    half = 0.5 * torch.ones(2, 3)
    none = torch.zeros(2, 3)
    first = torch.cat([torch.cat([half, none], 1), torch.cat([none, half], 1)])
    second = torch.cat([torch.cat([none, none], 1), torch.cat([half, none], 1)])
    assert torch.equal(stamped[:, 0], torch.stack([first, second]))


def test_all_pieces_together_are_the_whole_blend(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pattern, images = torch.rand(3, 7, 5, generator=generator), torch.rand(2, 3, 7, 5, generator=generator)
    trigger = PiecesTrigger(pattern, 0.2, pieces=9)
    whole = BlendTrigger(pattern, 0.2).stamp(images)
    assert torch.equal(trigger.stamp(images), whole)
    assert torch.equal(trigger.stamp_some(images, torch.ones(2, 9, dtype=torch.bool)), whole)
    assert trigger.places.unique().tolist() == list(range(9))
    trigger.save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert torch.equal(loaded.places, trigger.places)
    assert torch.equal(loaded.stamp(images), whole)


@pytest.mark.parametrize("pieces", [0, -4, 8, 36])
def test_pieces_that_do_not_fit_are_refused(pieces):
    with pytest.raises(DataError, match=f"square number of pieces that fit into 5x5, got {pieces}"):
        PiecesTrigger(torch.zeros(1, 5, 5), 0.2, pieces)


def test_a_broken_number_of_pieces_is_refused():
    with pytest.raises(DataError, match=r"expected a whole number of pieces, got 4\.5"):
        PiecesTrigger.from_state({"pattern": torch.zeros(1, 5, 5)}, {"alpha": 0.2, "pieces": 4.5})
