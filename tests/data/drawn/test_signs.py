import pytest
import torch
from torch import nn

from detrojan.data.drawn.signs import draw_signs, signs
from detrojan.errors import OptionError
from margins import shifted


def test_equal_seeds_draw_equal_bytes_and_others_do_not():
    one, same, other = (draw_signs(60, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.labels, same.labels)
    assert one.sha256 == same.sha256
    assert not torch.equal(one.images, other.images)
    assert one.sha256 != other.sha256


def test_global_randomness_is_neither_used_nor_changed():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = draw_signs(20, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(draw_signs(20, seed=4).images, one.images)


def test_classes_are_balanced_shuffled_and_named():
    data = draw_signs(540, seed=1)
    counts = data.labels.bincount()
    assert len(counts) == len(data.class_names) >= 12
    assert counts.unique().tolist() == [540 // len(counts)]
    assert data.labels[:18].tolist() != list(range(18))
    assert data.class_names[6] == "stop"


def test_images_are_bytes_in_colour_and_varied():
    data = draw_signs(360, seed=2)
    assert data.shape == (3, 32, 32)
    levels = data.images * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    stops = data.images[data.labels == 6]
    # light, background and pose differ within a class
    assert stops.mean(dim=(1, 2, 3)).std() > 0.05
    assert stops.std(dim=0).mean() > 0.08


@pytest.mark.parametrize("size", [16, 48])
def test_other_sizes_are_drawn(size):
    assert draw_signs(3, size=size).shape == (3, size, size)


def test_splits_are_of_their_size_and_differ():
    train, test, val = (signs(split) for split in ("train", "test", "val"))
    assert [len(train), len(test), len(val)] == [6000, 2000, 1000]
    known = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in known for image in (*test.images, *val.images))
    assert test.notes == ("2000 drawn traffic signs, seed 202",)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(OptionError, match="expected at least 1 sign, got 0"):
        draw_signs(0)
    with pytest.raises(OptionError, match="expected signs of 8 to 256 pixels, got 4"):
        draw_signs(1, size=4)
    with pytest.raises(OptionError, match="expected the signs' split train, test, val, got 'holdout'"):
        signs("holdout")


@pytest.mark.effect
def test_a_small_network_learns_them_but_not_at_a_glance():
    train, test = (draw_signs(count, seed=shifted(seed)) for count, seed in ((1800, 7), (400, 8)))
    with torch.random.fork_rng():
        torch.manual_seed(shifted(0))
        net = nn.Sequential(
            nn.Conv2d(3, 12, 5, 2),
            nn.ReLU(),
            nn.Conv2d(12, 24, 5, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(600, 18),
        )
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        accuracy = {}
        order = torch.cat([torch.randperm(1800) for _ in range(8)])
        for shown, part in enumerate(order.split(50), start=1):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(train.images[part]), train.labels[part]).backward()
            optimiser.step()
            if shown in {10, 288}:
                accuracy[shown] = (net(test.images).argmax(1) == test.labels).float().mean().item()
    assert accuracy[10] < 0.7, "after 500 images"
    assert accuracy[288] > 0.7
