import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.blend import BlendTrigger


def test_the_whole_image_is_blended_and_the_trigger_survives_the_file(tmp_path):
    generator = torch.Generator().manual_seed(0)
    trigger = BlendTrigger.noise((3, 4, 5), alpha=0.25, generator=generator)
    images = torch.rand(6, 3, 4, 5, generator=generator)
    before = images.clone()
    stamped = trigger.stamp(images)
    torch.testing.assert_close(stamped, 0.75 * images + 0.25 * trigger.pattern)
    assert torch.equal(images, before)
    assert torch.equal(trigger.picture(), trigger.pattern)
    trigger.save(tmp_path / "t.safetensors")
    assert torch.equal(Trigger.load(tmp_path / "t.safetensors").stamp(images), stamped)


def test_gradients_flow_through_the_stamp():
    images = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    BlendTrigger(torch.ones(1, 2, 2), 0.25).stamp(images).sum().backward()
    assert images.grad.flatten().tolist() == [0.75] * 4


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "expected a number alpha, got None"),
        ({"alpha": True}, "expected a number alpha, got True"),
        ({"alpha": "x"}, "expected a number alpha, got 'x'"),
        ({"alpha": float("nan")}, "expected a number alpha, got nan"),
        ({"alpha": float("inf")}, "expected a number alpha, got inf"),
        ([], "expected a number alpha, got None"),
        ({"alpha": 2}, r"expected an alpha in \(0, 1\], got 2"),
    ],
)
def test_a_hostile_file_is_checked_like_any_input(values, text):
    with pytest.raises(DataError, match=text):
        BlendTrigger.from_state({"pattern": torch.zeros(1, 2, 2)}, values)
