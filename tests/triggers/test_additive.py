import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.base import Trigger


def test_the_signal_is_added_and_clipped(tmp_path):
    trigger = AdditiveTrigger(torch.tensor([[[0.3, -0.3]]]))
    images = torch.tensor([[[[0.5, 0.5]]], [[[0.9, 0.1]]]])
    expected = torch.tensor([[[[0.8, 0.2]]], [[[1.0, 0.0]]]])
    torch.testing.assert_close(trigger.stamp(images), expected)
    assert images[0, 0, 0, 0] == 0.5, "the input is unchanged"
    trigger.save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert type(loaded) is AdditiveTrigger
    assert torch.equal(loaded.change, trigger.change)


def test_the_picture_shows_the_sign_and_uses_the_whole_range():
    picture = AdditiveTrigger(torch.tensor([[[0.02, 0.0, -0.02]]])).picture()
    assert picture.flatten().tolist() == pytest.approx([1, 0.5, 0])


def test_what_cannot_be_added_is_refused():
    with pytest.raises(DataError, match=r"expected a change in \[-1, 1\], got 0 to 2"):
        AdditiveTrigger(torch.tensor([[[0.0, 2.0]]]))
    with pytest.raises(DataError, match=r"expected a change in \[-1, 1\], got nan"):
        AdditiveTrigger(torch.full((1, 2, 2), torch.nan))
    with pytest.raises(DataError, match=r"expected a change \(C, H, W\), got \(2, 2\)"):
        AdditiveTrigger(torch.zeros(2, 2))
    with pytest.raises(DataError, match="expected a tensor change, got mask"):
        AdditiveTrigger.from_state({"mask": torch.zeros(1)}, {})
    with pytest.raises(DataError, match=r"expected images of shape \(1, 2, 2\) as the trigger's"):
        AdditiveTrigger(torch.zeros(1, 2, 2)).stamp(torch.zeros(1, 1, 3, 3))
