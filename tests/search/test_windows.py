"""The best window lies where the trigger is, and a search from there finds a smaller one."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.search.engine import search
from detrojan.search.forms import Patch
from detrojan.search.jobs import Job
from detrojan.search.plan import Plan
from detrojan.search.windows import FIRST_LOOK, OUTSIDE, SECOND_LOOK, windows
from detrojan.triggers.aim import Aim
from twins import SHAPE, TARGET

JOBS = [Job(Aim(target=TARGET)), Job(Aim(target=(TARGET + 1) % 4))]


@pytest.fixture(scope="module")
def seen(twins):
    return windows(twins.backdoored, twins.test.images, twins.test.labels, JOBS, run=Run())


def test_the_best_window_covers_the_trigger(twins, seen):
    mask = Patch().trigger(seen.raw[0, 0], twins.backdoored.input_shape).mask > 0.5
    (backdoor,) = twins.poisoned.backdoors
    assert int((mask & (backdoor.trigger.mask > 0)).sum()) > 0
    assert seen.losses[0, 0] / seen.losses[1, 0] < 0.5


def test_the_better_windows_come_first_and_the_passes_are_counted(seen):
    assert seen.losses.shape == (2, 4)
    assert bool((seen.losses.diff(dim=1) >= 0).all())
    assert all(len(set(row)) == 4 for row in seen.places.tolist())
    (steps, images), (more, others) = FIRST_LOOK, SECOND_LOOK
    assert seen.passes == 2 * (16 * steps * images + 4 * more * others)


def test_only_the_picture_is_learnt(seen):
    logits = seen.raw[..., 0]
    assert set(logits.unique().tolist()) == {OUTSIDE, 1.5}


def test_a_search_begins_there(twins, seen):
    starts = seen.starts(2)
    assert list(starts) == [Job(job.aim, start) for job in JOBS for start in (1, 2)]
    plan = Plan(form="patch", steps=30)
    found = search(
        twins.backdoored, twins.test.images, twins.test.labels, list(starts), plan, run=Run(), starts=starts
    ).found
    assert found[Job(Aim(target=TARGET), 1)].size / found[Job(JOBS[1].aim, 1)].size < 0.5


def test_it_stops_when_told(twins):
    nothing = windows(
        twins.backdoored, twins.test.images, twins.test.labels, JOBS, run=Run(), stop=lambda: True
    )
    assert nothing.jobs == ()
    assert nothing.starts(2) == {}


def test_a_grid_of_one_window_is_refused(twins):
    with pytest.raises(OptionError, match="a grid of 2 windows per side or more, got 1"):
        windows(twins.backdoored, torch.rand(4, *SHAPE), torch.arange(4), JOBS, run=Run(), grid=1)
