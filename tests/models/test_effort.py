from pathlib import Path

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models import effort
from detrojan.models.effort import check_effort
from detrojan.models.nets import find_net

HERE = Path("network.pt")


@pytest.fixture
def runs(monkeypatch):
    """Count how often a network runs without values."""
    count = []
    real = effort._run_without_values

    def counted(*given):
        count.append(given)
        return real(*given)

    monkeypatch.setattr(effort, "_run_without_values", counted)
    return count


def test_what_a_small_plain_network_takes_is_known_without_running_it(runs):
    network = find_net("mnist_cnn").build(10, (1, 28, 28))
    check_effort(network, (1, 28, 28), HERE, plain=True)
    assert not runs
    check_effort(network, (1, 28, 28), HERE)
    assert len(runs) == 1


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("network", "shape", "text"),
    [
        (nn.Conv2d(3, 64, 63, padding="same"), (3, 1024, 1024), "an answer for images of 3x1024x1024"),
        (
            nn.Sequential(*(nn.Conv2d(3, 3, 255, padding="same") for _ in range(40))),
            (3, 600, 600),
            "multiplications for 2 images of 3x600x600",
        ),
    ],
)
def test_what_takes_too_much_is_refused_whoever_made_the_network(network, shape, text, plain, monkeypatch):
    if "multiplications" in text:
        monkeypatch.setattr(effort, "check_room", lambda *_args, **_options: None)
    with pytest.raises(ModelError, match=text):
        check_effort(network, shape, HERE, plain=plain)


def test_a_network_that_cannot_run_without_values_is_refused_for_huge_images_only():
    class Odd(nn.Module):
        def forward(self, images):
            return torch.from_numpy(images.numpy())

    check_effort(Odd(), (3, 64, 64), HERE)
    with pytest.raises(ModelError, match="expected images of at most 4,194,304 values"):
        check_effort(Odd(), (3, 2048, 2048), HERE)
