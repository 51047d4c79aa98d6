"""What a limit of time does to the searches: they end before it, not at it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.scans.searches import ENOUGH_PASSES, Searches
from detrojan.scans.weighed import JUDGED, JUDGED_IN_A_HURRY
from detrojan.search.jobs import Job
from detrojan.search.plan import Found, Searched
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger


class Answering:
    """Answers label 0, and counts the images."""

    num_classes = 3
    answers_only, network = False, None

    def __init__(self, side: int) -> None:
        self.input_shape, self.seen = (1, side, side), 0

    def answers(self, images):
        self.seen += len(images)
        return torch.zeros(len(images), dtype=torch.long)


@pytest.fixture
def now(monkeypatch):
    """A clock that only moves when a test says so."""
    held = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: held[0])
    return held


def searches(side=8, *, budget=10.0, rate=100.0, answers_a_second=40.0) -> Searches:
    images = torch.zeros(300, 1, side, side)
    ready = SimpleNamespace(
        held_out=(images, torch.arange(300) % 3), afforded=SimpleNamespace(rate=answers_a_second)
    )
    return Searches(Cascade(budget=budget), Answering(side), ready, run=Run(), begun=50.0, rate=rate)


def test_without_a_limit_it_never_stops(now):
    now[0] = 1e9
    assert not searches(budget=0.0).stop(10**12)


@pytest.mark.parametrize(
    ("passed", "passes", "stops"), [(0.0, 900, False), (0.0, 1100, True), (9.0, 90, False), (9.0, 110, True)]
)
def test_what_would_end_after_the_limit_is_not_begun(now, passed, passes, stops):
    now[0] += passed
    assert searches().stop(passes) == stops


def test_the_speed_is_what_it_was_so_far_where_it_became_slower(now):
    work = searches()
    work.passes, work.seconds = ENOUGH_PASSES, {"probes": ENOUGH_PASSES / 20}
    assert not work.stop(190)
    assert work.stop(210), "20 passes a second, not 100"


def test_of_large_images_the_end_of_the_work_is_kept_free(now):
    assert not searches(224).stop(700)
    assert searches(224).stop(900), "the pictures of the report take two seconds"
    work = searches(224)
    trigger = PatchTrigger(torch.zeros(1, 224, 224), torch.zeros(1, 224, 224))
    for label in range(3):
        job = Job(Aim(target=label))
        work.found["additive"][job] = Found(job=job, trigger=trigger, size=1.0, steps=1)
    assert work.stop(790)
    assert not work.stop(700)


@pytest.mark.parametrize(
    ("side", "passed", "asked"), [(8, 0, 200), (8, 99, 200), (224, 0, JUDGED), (224, 99, JUDGED_IN_A_HURRY)]
)
def test_a_trigger_for_large_images_is_tried_on_some_of_them(now, side, passed, asked):
    work = searches(side)
    now[0] += passed
    trigger = PatchTrigger(torch.zeros(1, side, side), torch.zeros(1, side, side))
    assert work.success(trigger, 0) == 1.0
    assert work.model.seen == asked


@pytest.mark.parametrize(("complete", "sizes"), [(True, [90.0, 3.0]), (False, [12.0, 3.0])])
def test_a_search_that_was_cut_short_takes_nothing_back(now, monkeypatch, complete, sizes):
    jobs, patch = [Job(Aim(target=label)) for label in (0, 1)], PatchTrigger.corner((1, 8, 8))
    work = searches()
    work.ready.search = work.ready.held_out
    made = {
        job: Found(job=job, trigger=patch, size=size, steps=3)
        for job, size in zip(jobs, (90.0, 3.0), strict=True)
    }
    monkeypatch.setattr(
        "detrojan.scans.searches.search", lambda *_args, **_options: Searched(found=made, complete=complete)
    )
    work.found["patch"] = {jobs[0]: Found(job=jobs[0], trigger=patch, size=12.0, steps=45)}
    work._seek(Cascade().plan("patch"), jobs, "patch triggers")
    assert [work.found["patch"][job].size for job in jobs] == sizes
    assert work.cut == ([] if complete else ["patch triggers"])
