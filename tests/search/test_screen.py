"""The screening puts the target first in a moment, and not on the clean twin."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError, OptionError
from detrojan.run import Run
from detrojan.search.screen import screen
from twins import CLASSES, TARGET


def margins(twins, model, **more):
    images, labels = twins.test.images[:200], twins.test.labels[:200]
    return screen(model, images, labels, range(CLASSES), run=Run(), images_each=12, **more)


def test_the_target_stands_out_on_the_backdoored_network_alone(twins):
    bad, good = (margins(twins, model, steps=6) for model in (twins.backdoored, twins.clean))
    assert int(bad.margins.argmax()) == TARGET

    def lead(scores):
        others = scores[torch.arange(CLASSES) != TARGET]
        return float((scores[TARGET] - others.mean()) / others.std())

    assert lead(bad.margins) > lead(good.margins)
    assert bad.passes == 12 * 6 * CLASSES
    assert float(bad.success[TARGET]) > 0.9


def test_it_stops_when_told(twins):
    result = margins(twins, twins.clean, stop=lambda: True)
    assert result.passes == 0
    assert bool((result.margins == -torch.inf).all())


def test_sources_say_where_images_come_from(twins):
    result = screen(
        twins.backdoored,
        twins.test.images[:200],
        twins.test.labels[:200],
        [TARGET, TARGET],
        run=Run(),
        sources=[(TARGET + 1) % CLASSES, (TARGET + 2) % CLASSES],
    )
    assert float(result.margins[0]) != float(result.margins[1])


def test_what_cannot_be_screened_is_refused(twins):
    with pytest.raises(DataError, match="expected an image to reach label 0 from, got none"):
        screen(twins.clean, twins.test.images[:4], torch.zeros(4).long(), [0], run=Run())
    with pytest.raises(OptionError, match=r"expected a strength in \(0, 1\], .* got 2, 3 and 6"):
        screen(twins.clean, twins.test.images[:4], torch.ones(4).long(), [0], run=Run(), strength=2)
