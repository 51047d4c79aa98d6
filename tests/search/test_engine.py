"""The search finds what was planted, alone or beside others, and goes on where it stopped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from detrojan.errors import DataError, LabelError, OptionError
from detrojan.metrics.accuracy import attack_success
from detrojan.run import Run
from detrojan.search import asking, engine
from detrojan.search.engine import search
from detrojan.search.jobs import Job
from detrojan.search.pace import Pace
from detrojan.search.plan import Plan
from detrojan.search.screen import screen
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim
from twins import CLASSES, TARGET

#: how far results may differ where sums are rounded otherwise
ROUNDING = 1e-3
PLAN = Plan(steps=50)
JOBS = [Job(Aim(target=label)) for label in range(CLASSES)]


def ask(twins, plan=PLAN, jobs=JOBS, run=None, **more):
    test = twins.test
    return search(
        twins.backdoored, test.images[:200], test.labels[:200], jobs, plan, run=run or Run(), **more
    )


@pytest.mark.parametrize("form", ["patch", "pixel", "additive"])
def test_the_target_needs_the_smallest_change(twins, form):
    found = ask(twins, replace(PLAN, form=form)).found
    order = sorted(found, key=lambda job: found[job].size)
    assert order[0] == Job(Aim(target=TARGET))
    best = found[Job(Aim(target=TARGET))]
    assert best.size / found[order[1]].size < 0.7
    images, truth = twins.test.images[200:], twins.test.labels[200:]
    # 0.73 and more with twins of other seeds
    assert attack_success(twins.backdoored, best.trigger, images, truth, TARGET) > 0.65


def test_passes_are_counted_and_jobs_leave_at_rungs(twins):
    plan = replace(PLAN, steps=12, rungs=((6, 2),))
    controls = [Job(Aim(target=CLASSES - 1))]
    result = ask(twins, plan, controls=controls)
    stayed = [job for job, found in result.found.items() if found.steps == 12]
    assert len(stayed) == 3
    assert controls[0] in stayed
    assert result.passes == 16 * (6 * CLASSES + 6 * 3)
    assert result.complete


def test_the_same_seed_gives_the_same_result_and_starts_differ(twins):
    jobs = [Job(Aim(target=TARGET)), Job(Aim(target=TARGET), 1)]
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


def test_what_is_found_hardly_depends_on_the_pace(twins, monkeypatch):
    images, truth = twins.test.images[:60], twins.test.labels[:60]
    found = []
    for pace in (Pace(samples=16, threads=1), Pace(samples=1024, threads=2)):
        monkeypatch.setattr(asking, "find_pace", lambda _work, _device, pace=pace: pace)
        model = twins.backdoored.copy()
        plan = replace(PLAN, form="additive", steps=8)
        searched = search(model, images, truth, JOBS, plan, run=Run(float32=True))
        assert searched.passes == 8 * 16 * CLASSES
        looked = windows(model, images, truth, JOBS, run=Run(float32=True), grid=2)
        screened = screen(model, images, truth, range(CLASSES), run=Run(float32=True))
        patterns = torch.stack([searched.found[job].trigger.change for job in JOBS])
        found.append((patterns, looked.losses, screened.margins))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)


def test_nothing_given_is_changed(twins):
    before = {name: tensor.clone() for name, tensor in twins.backdoored.network.state_dict().items()}
    ask(twins, replace(PLAN, steps=2))
    after = twins.backdoored.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_job_for_which_nothing_worked_says_so(twins):
    found = ask(twins, Plan(steps=1, form="additive"), [Job(Aim(target=TARGET))]).found[
        Job(Aim(target=TARGET))
    ]
    assert found.size == math.inf


def test_what_cannot_be_searched_is_refused(twins):
    with pytest.raises(LabelError, match=f"labels of 0 to {CLASSES - 1}, each once, got 1 with labels"):
        ask(twins, jobs=[Job(Aim(target=CLASSES))])
    with pytest.raises(LabelError, match="each once, got 2"):
        ask(twins, jobs=[Job(Aim(target=0)), Job(Aim(target=0))])
    with pytest.raises(
        DataError, match="2 images or more of classes other than the target 1 to search with, got 0"
    ):
        search(
            twins.clean, twins.test.images[:4], torch.ones(4).long(), [Job(Aim(target=1))], PLAN, run=Run()
        )
    with pytest.raises(OptionError, match="steps of 1 or more, batch_size of 2 or more and goal"):
        Plan(goal=0)


def in_turns(known):
    """All jobs twice, then the even and the odd ones in turns of three steps."""
    count = len(known.spent)
    if known.step < 2:
        return range(count)
    if (known.step - 2) % 3:
        return known.chosen
    return range(((known.step - 2) // 3) % 2, count, 2)


def test_the_jobs_that_are_chosen_advance_and_no_others(twins):
    told = []

    def choose(known):
        told.append(known)
        return in_turns(known) if known.step < 14 else []

    result = ask(twins, replace(PLAN, steps=40), choose=choose)
    # steps 2 to 4 and 8 to 10 are the even ones', 5 to 7 and 11 to 13 the odd ones'
    assert {found.steps for found in result.found.values()} == {2 + 6}
    assert result.passes == 16 * (2 * CLASSES + 12 * CLASSES // 2)
    assert result.complete
    assert told[4].spent.tolist() == [4, 2] * (CLASSES // 2)
    assert told[4].chosen == tuple(range(0, CLASSES, 2))
    assert torch.equal(told[4].best[1::2], told[2].best[1::2])
    last = told[-1]
    worked = last.best.isfinite()
    assert worked.any()
    assert bool((last.first[worked] >= last.best[worked]).all())


def test_a_choice_of_all_is_the_same_as_no_choice(twins):
    plan = replace(PLAN, steps=10)
    plain, chosen = ask(twins, plan), ask(twins, plan, choose=lambda known: range(len(known.spent)))
    for job, found in plain.found.items():
        assert torch.equal(chosen.found[job].trigger.mask, found.trigger.mask)
        assert chosen.found[job].size == found.size


def test_a_choice_goes_on_where_it_stopped(twins, tmp_path, monkeypatch):
    plan = replace(PLAN, steps=20)
    whole = ask(twins, plan, choose=in_turns)
    monkeypatch.setattr(engine, "SNAPSHOT_SECONDS", 0.0)
    calls = iter([False] * 9 + [True])  # in the middle of a turn
    run = Run(checkpoint=tmp_path)
    assert not ask(twins, plan, run=run, stop=lambda: next(calls), choose=in_turns).complete
    again = ask(twins, plan, run=run, choose=in_turns)
    assert again.passes == whole.passes
    for job, found in whole.found.items():
        assert (again.found[job].size, again.found[job].steps) == (found.size, found.steps)
        assert torch.equal(again.found[job].trigger.mask, found.trigger.mask)


def test_an_interrupted_choice_is_saved_whole(twins, tmp_path, monkeypatch):
    plan, run = replace(PLAN, steps=12), Run(checkpoint=tmp_path)
    original, steps = engine._Search._slope, []

    def interrupted(self, part, columns):
        steps.append(self.step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return original(self, part, columns)

    whole = ask(twins, plan, choose=in_turns)
    monkeypatch.setattr(engine._Search, "_slope", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(twins, plan, run=run, choose=in_turns)
    monkeypatch.setattr(engine._Search, "_slope", original)
    again = ask(twins, plan, run=run, choose=in_turns)
    assert again.passes == whole.passes
    assert all(again.found[job].size == found.size for job, found in whole.found.items())


def test_rungs_beside_a_choice_are_refused(twins):
    with pytest.raises(OptionError, match="expected no rungs where each step's jobs are chosen"):
        ask(twins, replace(PLAN, rungs=((4, 2),)), choose=in_turns)
