from __future__ import annotations

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.metrics.attraction import KINDS, attraction, strange_images
from twins import TARGET


@pytest.mark.parametrize("shape", [(3, 55, 47), (1, 28, 28)])
def test_images_of_every_kind_are_made(shape):
    random = torch.Generator().manual_seed(0)
    kinds = strange_images(torch.rand(30, *shape, generator=random), random, count=71)
    assert tuple(kinds) == KINDS
    for made in kinds.values():
        assert made.shape == (10, *shape)
        assert 0 <= float(made.min()) < float(made.max()) <= 1


def test_more_of_the_strange_inputs_fall_to_the_target_than_without_the_backdoor(twins):
    def found(model):
        return attraction(model, twins.test.images, torch.Generator().manual_seed(1), count=700)

    infected, clean = found(twins.backdoored), found(twins.clean)
    assert float(infected.share[TARGET]) > 1.2 * float(clean.share[TARGET])
    assert infected.score.argsort(descending=True).tolist().index(TARGET) < 3
    assert float(infected.share.sum()) == pytest.approx(1)
    assert float(infected.probability.sum()) == pytest.approx(1)
    assert infected.images == len(twins.test) + 700


def test_fewer_images_than_kinds_are_refused():
    with pytest.raises(OptionError, match="expected a count of 7 images or more, one of each kind, got 6"):
        strange_images(torch.rand(5, 1, 8, 8), torch.Generator().manual_seed(0), count=6)
