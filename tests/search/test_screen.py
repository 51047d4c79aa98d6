"""The screening puts the target first in a moment, and not on the clean twin."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError, OptionError
from detrojan.run import Run
from detrojan.search import asking
from detrojan.search.pace import Pace
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


def test_it_goes_on_where_it_stopped(twins, tmp_path, monkeypatch):
    at_once = Pace(samples=24, threads=1)
    monkeypatch.setattr(asking, "find_pace", lambda _work, _device: at_once)
    model, run = twins.backdoored.copy(), Run(checkpoint=tmp_path)

    def ask(**more):
        return screen(model, twins.test.images[:60], twins.test.labels[:60], range(CLASSES), **more)

    whole = ask(run=Run())
    calls = iter([False, True])
    part = ask(run=run, stop=lambda: next(calls))
    assert 0 < part.passes < whole.passes
    again = ask(run=run)
    assert again.passes == whole.passes
    torch.testing.assert_close(again.margins, whole.margins, rtol=0, atol=1e-5)
    assert ask(run=run, stop=lambda: pytest.fail("it had ended")).passes == whole.passes


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
