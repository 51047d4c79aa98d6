import pytest
import torch

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.redrawn import RedrawnTrigger
from detrojan.triggers.sample_specific import SampleSpecificTrigger
from detrojan.triggers.style import StyleTrigger

SHAPE = (3, 9, 10)
SECRET = torch.tensor([1.0, -1, -1])


def make(kind=SampleSpecificTrigger, **changed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        secret = None if kind is StyleTrigger else SECRET
        return kind(SHAPE, **({"strength": 0.3, "width": 8, "secret": secret} | changed))


def images(count=4):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [SampleSpecificTrigger, StyleTrigger])
def test_each_image_gets_a_bounded_change_that_depends_on_it_alone(kind):
    made, clean = make(kind), images()
    before = clean.clone()
    stamped = made.stamp(clean)
    assert torch.equal(clean, before)
    assert 0 < (stamped - clean).abs().max() <= 0.3 + 1e-6
    torch.testing.assert_close(made.stamp(clean[1:2]), stamped[1:2])
    with torch.no_grad():
        drawn = made.drawn(clean)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3
    torch.testing.assert_close(stamped, (clean + drawn).clamp(0, 1))


def test_the_change_of_one_image_can_be_put_on_another():
    made, clean = make(), images()
    with torch.no_grad():
        drawn = made.drawn(clean.roll(1, 0))
    torch.testing.assert_close(made.stamp_from(clean, clean.roll(1, 0)), (clean + drawn).clamp(0, 1))


def test_another_secret_is_another_change():
    made, clean = make(), images()
    with torch.no_grad():
        assert (made.drawn(clean) - made.drawn(clean, -SECRET.expand(4, -1))).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [SampleSpecificTrigger, StyleTrigger])
def test_it_survives_the_file_and_leaves_the_global_generator_alone(kind, tmp_path):
    made = make(kind)
    made.save(tmp_path / "t.safetensors")
    state = torch.get_rng_state()
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert type(loaded) is kind
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded.stamp(images()), made.stamp(images()))
    assert loaded.picture().shape == SHAPE
    assert 0 <= loaded.picture().min() < loaded.picture().max() <= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drawer": 6}, "expected a width of 4 to 256 in steps of 4, got 6"),
        ({"height": 100_000_000}, r"expected a shape \(1 or 3, H, W\) of 4 to 4096 pixels"),
        ({"strength": 0}, r"expected a strength in \(0, 1\], got 0"),
        ({"strength": "1"}, "expected a number strength, got '1'"),
        ({"drawer": 12}, "expected the weights of a drawer"),
    ],
)
def test_a_hostile_file_is_checked_like_any_input(change, text):
    tensors, values = make().state()
    with pytest.raises(DataError, match=text):
        SampleSpecificTrigger.from_state(tensors, values | change)


def test_broken_tensors_and_other_images_are_refused():
    tensors, values = make().state()
    with pytest.raises(DataError, match="expected finite weights of the drawer, got NaN or infinity"):
        SampleSpecificTrigger.from_state(tensors | {"drawer.out.bias": torch.full((3,), torch.nan)}, values)
    with pytest.raises(DataError, match="expected a secret of at most 1024 bits of -1 and 1"):
        SampleSpecificTrigger.from_state(tensors | {"secret": torch.zeros(3)}, values)
    with pytest.raises(DataError, match=r"expected images of shape \(3, 9, 10\) as the trigger's"):
        make().stamp(torch.zeros(1, 3, 12, 12))
    assert not RedrawnTrigger.kind, "it is a base, no kind of its own"
