"""The search finds what was planted, alone or beside others, and goes on where it stopped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from detrojan.errors import DataError, LabelError, OptionError
from detrojan.metrics.accuracy import attack_success
from detrojan.run import Run
from detrojan.search import engine
from detrojan.search.engine import Plan, search
from detrojan.search.jobs import Job
from twins import CLASSES, TARGET

PLAN = Plan(steps=50)
JOBS = [Job(label) for label in range(CLASSES)]


def ask(twins, plan=PLAN, jobs=JOBS, run=None, **more):
    test = twins.test
    return search(
        twins.backdoored, test.images[:200], test.labels[:200], jobs, plan, run=run or Run(), **more
    )


@pytest.mark.parametrize("form", ["patch", "pixel", "additive"])
def test_the_target_needs_the_smallest_change(twins, form):
    found = ask(twins, replace(PLAN, form=form)).found
    order = sorted(found, key=lambda job: found[job].size)
    assert order[0] == Job(TARGET)
    best = found[Job(TARGET)]
    assert best.size < 0.7 * found[order[1]].size
    images, truth = twins.test.images[200:], twins.test.labels[200:]
    assert attack_success(twins.backdoored, best.trigger, images, truth, TARGET) > 0.8


def test_passes_are_counted_and_jobs_leave_at_rungs(twins):
    plan = replace(PLAN, steps=12, rungs=((6, 2),))
    controls = [Job(CLASSES - 1)]
    result = ask(twins, plan, controls=controls)
    stayed = [job for job, found in result.found.items() if found.steps == 12]
    assert len(stayed) == 3
    assert controls[0] in stayed
    assert result.passes == 16 * (6 * CLASSES + 6 * 3)
    assert result.complete


def test_the_same_seed_gives_the_same_result_and_starts_differ(twins):
    jobs = [Job(TARGET), Job(TARGET, start=1)]
    first, second = (ask(twins, replace(PLAN, steps=8), jobs).found for _ in range(2))
    for job in jobs:
        assert torch.equal(first[job].trigger.mask, second[job].trigger.mask)
    assert not torch.equal(first[jobs[0]].trigger.mask, first[jobs[1]].trigger.mask)


def test_it_goes_on_where_it_stopped(twins, tmp_path, monkeypatch):
    plan = replace(PLAN, steps=20, rungs=((8, 4),))
    whole = ask(twins, plan)
    monkeypatch.setattr(engine, "SNAPSHOT_SECONDS", 0.0)
    calls = iter([False] * 11 + [True])
    run = Run(checkpoint=tmp_path)
    part = ask(twins, plan, run=run, stop=lambda: next(calls))
    assert not part.complete
    assert part.passes < whole.passes
    again = ask(twins, plan, run=run)
    assert again.passes == whole.passes
    for job, found in whole.found.items():
        assert again.found[job].size == found.size
        assert torch.equal(again.found[job].trigger.mask, found.trigger.mask)
    assert ask(twins, plan, run=run, stop=lambda: pytest.fail("it had ended")).passes == whole.passes


def test_nothing_given_is_changed(twins):
    before = {name: tensor.clone() for name, tensor in twins.backdoored.network.state_dict().items()}
    ask(twins, replace(PLAN, steps=2))
    after = twins.backdoored.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_job_for_which_nothing_worked_says_so(twins):
    found = ask(twins, Plan(steps=1, form="additive"), [Job(TARGET)]).found[Job(TARGET)]
    assert found.size == math.inf


def test_what_cannot_be_searched_is_refused(twins):
    with pytest.raises(LabelError, match=f"labels of 0 to {CLASSES - 1}, each once, got 1 with labels"):
        ask(twins, jobs=[Job(CLASSES)])
    with pytest.raises(LabelError, match="each once, got 2"):
        ask(twins, jobs=[Job(0), Job(0)])
    with pytest.raises(DataError, match="2 images or more of other labels to reach label 1 from, got 0"):
        search(twins.clean, twins.test.images[:4], torch.ones(4).long(), [Job(1)], PLAN, run=Run())
    with pytest.raises(OptionError, match="steps of 1 or more, batch_size of 2 or more and goal"):
        Plan(goal=0)
