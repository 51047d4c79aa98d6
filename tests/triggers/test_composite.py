import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.composite import CompositeTrigger


def images(count, seed):
    return torch.rand(count, 3, 6, 7, generator=torch.Generator().manual_seed(seed))


def test_the_right_half_is_a_donors_and_depends_on_the_image_alone():
    donors, clean = images(4, 1), images(20, 2)
    before = clean.clone()
    stamped = CompositeTrigger(donors).stamp(clean)
    assert torch.equal(clean, before)
    assert torch.equal(stamped[..., :3], clean[..., :3])
    used = {(stamped[i, ..., 3:] == donors[..., 3:]).flatten(1).all(1).nonzero().item() for i in range(20)}
    assert len(used) > 1, "not the same donor for all"
    assert torch.equal(CompositeTrigger(donors).stamp(clean[7:8]), stamped[7:8])


def test_it_survives_the_file(tmp_path):
    made = CompositeTrigger(images(4, 1))
    made.save(tmp_path / "t.safetensors")
    assert torch.equal(Trigger.load(tmp_path / "t.safetensors").stamp(images(3, 2)), made.stamp(images(3, 2)))
    assert made.picture().shape == (3, 6, 7)


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="expected a tensor donors, got none"):
        CompositeTrigger.from_state({}, {})
    with pytest.raises(
        DataError, match=r"expected donors \(D, C, H, W\) 2 or more wide, got shape \(3, 6, 7\)"
    ):
        CompositeTrigger(torch.zeros(3, 6, 7))
    with pytest.raises(DataError, match=r"expected donors in \[0, 1\], got 0 to 2"):
        CompositeTrigger(torch.linspace(0, 2, 8).view(1, 1, 2, 4))
    with pytest.raises(DataError, match="expected images of shape"):
        CompositeTrigger(images(4, 1)).stamp(torch.zeros(1, 3, 7, 6))
