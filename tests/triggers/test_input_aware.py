import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.input_aware import InputAwareTrigger


def trigger(shape=(3, 11, 14), width=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return InputAwareTrigger(shape, width)


def images(count=3, shape=(3, 11, 14)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def test_each_image_gets_what_is_drawn_for_it_alone():
    made, clean = trigger(), images()
    before = clean.clone()
    stamped = made.stamp(clean)
    with torch.no_grad():
        patterns, masks = made.patterns(clean), made.masks(clean)
    torch.testing.assert_close(stamped, (1 - masks) * clean + masks * patterns)
    assert torch.equal(clean, before)
    torch.testing.assert_close(made.stamp(clean[1:2]), stamped[1:2], msg="its neighbours do not matter")
    assert (patterns[0] - patterns[1]).abs().max() > 1e-3


def test_the_trigger_of_one_image_can_be_put_on_another():
    made, clean = trigger(), images()
    crossed = made.stamp_from(clean, clean.roll(1, 0))
    with torch.no_grad():
        patterns, masks = made.patterns(clean.roll(1, 0)), made.masks(clean.roll(1, 0))
    torch.testing.assert_close(crossed, (1 - masks) * clean + masks * patterns)
    assert torch.equal(made.stamp_from(clean, clean), made.stamp(clean))


def test_it_survives_the_file_and_leaves_the_global_generator_alone(tmp_path):
    made = trigger()
    made.save(tmp_path / "t.safetensors")
    state = torch.get_rng_state()
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded.stamp(images()), made.stamp(images()))
    assert loaded.picture().shape == (3, 11, 14)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drawers": 6}, "expected a width of 4 to 256 in steps of 4, got 6"),
        ({"height": 100_000_000}, r"expected a shape \(1 or 3, H, W\) of 4 to 4096 pixels"),
        ({"channels": 2}, r"expected a shape \(1 or 3, H, W\)"),
        ({"drawers": 8}, "expected the weights of a pattern drawer"),
        ({"width": "14"}, "expected a number width, got '14'"),
    ],
)
def test_a_hostile_file_is_checked_like_any_input(change, text):
    tensors, values = trigger().state()
    with pytest.raises(DataError, match=text):
        InputAwareTrigger.from_state(tensors, values | change)


def test_broken_weights_and_other_images_are_refused():
    tensors, values = trigger().state()
    broken = tensors | {"mask.out.bias": torch.full((1,), torch.nan)}
    with pytest.raises(DataError, match="expected finite weights of the drawers, got NaN or infinity"):
        InputAwareTrigger.from_state(broken, values)
    with pytest.raises(DataError, match=r"expected images of shape \(3, 11, 14\) as the trigger's"):
        trigger().stamp(torch.zeros(1, 3, 12, 12))
