"""The search itself: many jobs side by side, each with its own images, success and best change so far.

All jobs share the forward passes; at each rung those whose change is large leave (successive
halving), except for the controls, which show what is usual; or a caller chooses before each step which
go on, as a bandit does. The state is written at intervals, whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from detrojan.errors import LabelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.asking import Asking
from detrojan.search.forms import State, form_named
from detrojan.search.jobs import Job, goals, order, picks, stream
from detrojan.search.plan import Choice, Found, Known, Plan, Searched
from detrojan.store import Store, Tensors, digest, tensor_digest
from detrojan.triggers.aim import Aim

#: seconds between two snapshots of the state
SNAPSHOT_SECONDS = 5.0
#: how far the recent share may lie below the goal where a change counts
NEARLY = 0.1
#: what is kept of each job, in rows
ROWS = ("raw", "best", "best_size", "first_size", "spent", "worked", "picks", "goals")


class _Search:
    """The loop, its buffers and its snapshots."""

    def __init__(
        self,
        model: Classifier,
        images: torch.Tensor,
        truth: torch.Tensor,
        jobs: Sequence[Job],
        controls: Collection[Job],
        plan: Plan,
        starts: Mapping[Job, torch.Tensor],
        run: Run,
        choose: Choice | None,
    ) -> None:
        self.choose = choose
        self.chosen: tuple[int, ...] = ()
        self.plan, self.run, self.form = plan, run, form_named(plan.form)
        self.asking = Asking(model, run)
        self.device, self.model = self.asking.device, self.asking.model
        self.images = self.asking.flat(images)
        self.jobs, self.controls = list(jobs), set(controls)
        self.picks = picks(truth, jobs, run).to(self.device)
        self.goals = goals(truth, jobs, model.num_classes).to(self.device).gather(1, self.picks)
        rows = [
            starts[job] if job in starts else self.form.start(model.input_shape, stream(run, job, "start"))
            for job in jobs
        ]
        self.raw = torch.stack(rows).to(self.device)
        self.best = self.raw.clone()
        self.best_size = torch.full((len(jobs),), math.inf, device=self.device)
        self.first_size = self.best_size.clone()
        self.spent = torch.zeros(len(jobs), dtype=torch.long, device=self.device)
        self.worked = torch.zeros(len(jobs), device=self.device)
        self.memory: State = self.form.begin(self.raw)
        self.step, self.passes = 0, 0
        self.done: dict[Job, Found] = {}
        self.at_once = max(1, self.asking.pace.samples // plan.batch_size)
        shape = (min(self.at_once, len(jobs)), plan.batch_size, self.images.shape[1])
        self.batch = torch.empty(shape, device=self.device)
        self.stamped = torch.empty(shape, device=self.device)

    def turn(self) -> bool:
        """Make one step with every job, or with those that are chosen; return whether there were any."""
        if self.choose is None:
            self.advance()
            return True
        known = Known(
            step=self.step,
            spent=self.spent.cpu().clone(),
            first=self.first_size.cpu().clone(),
            best=self.best_size.cpu().clone(),
            chosen=self.chosen,
        )
        self.chosen = tuple(self.choose(known))
        if not self.chosen:
            return False
        places = torch.tensor(self.chosen, device=self.device)
        rows, memory = {name: getattr(self, name) for name in ROWS}, self.memory
        for name, values in rows.items():
            setattr(self, name, values[places])
        self.memory = {name: values[places] for name, values in memory.items()}
        try:
            self.advance()
        finally:  # an interruption must find the jobs together again
            for name, values in rows.items():
                values[places] = getattr(self, name)
                setattr(self, name, values)
            for name, values in memory.items():
                values[places] = self.memory[name]
            self.memory = memory
        return True

    def advance(self) -> None:
        """One update of every job that has a row."""
        size, count = self.plan.batch_size, self.picks.shape[1]
        columns = (self.step * size + torch.arange(size, device=self.device)) % count
        slopes, works = [], []
        for first in range(0, len(self.raw), self.at_once):
            part = slice(first, first + self.at_once)
            slope, share = self._slope(part, columns)
            slopes.append(slope)
            works.append(share)
        share = torch.cat(works)
        good = share >= self.plan.goal - 1e-6
        now = self.form.size(self.raw)
        better = good & (now < self.best_size)
        if self.form.steady:  # one lucky batch is not enough: those before must nearly have worked
            self.worked = (self.worked + share) / 2
            better &= self.worked >= self.plan.goal - NEARLY
        self.best[better] = self.raw[better]
        self.best_size = torch.where(better, now, self.best_size)
        self.first_size = torch.where(self.first_size.isinf(), self.best_size, self.first_size)
        self.raw = self.form.descend(self.raw, torch.cat(slopes), good, self.memory, self.step)
        self.spent = self.spent + 1
        self.step += 1

    def _slope(self, part: slice, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the slope of each job's mean cross entropy, and the share of images that arrive."""
        raw, chosen = self.raw[part], self.picks[part][:, columns]
        jobs, size = chosen.shape
        batch, stamped = self.batch[:jobs], self.stamped[:jobs]
        torch.index_select(self.images, 0, chosen.flatten(), out=batch.view(jobs * size, -1))
        self.form.stamp(raw, batch, stamped)
        share, _, by_pixel = self.asking.slope(stamped, self.goals[part][:, columns])
        self.passes += jobs * size
        return self.form.slope(raw, by_pixel, batch, stamped), share

    def leave(self, places: Sequence[int]) -> None:
        """Take the jobs at these places out, with what they have found."""
        for place in places:
            job = self.jobs[place]
            size = float(self.best_size[place])
            raw = self.best[place] if math.isfinite(size) else self.raw[place]
            trigger = self.form.trigger(raw.cpu(), self.model.input_shape)
            self.done[job] = Found(job=job, trigger=trigger, size=size, steps=int(self.spent[place]))
        gone = set(places)
        stay = torch.tensor([place for place in range(len(self.jobs)) if place not in gone], dtype=torch.long)
        stay = stay.to(self.device)
        self.jobs = [job for place, job in enumerate(self.jobs) if place not in gone]
        for name in ROWS:
            setattr(self, name, getattr(self, name)[stay])
        self.memory = {name: tensor[stay] for name, tensor in self.memory.items()}

    def climb(self) -> None:
        """At a rung, let only the jobs with the smallest changes go on."""
        for step, stay in self.plan.rungs:
            if step == self.step:
                places = [place for place, job in enumerate(self.jobs) if job not in self.controls]
                places.sort(key=lambda place: float(self.best_size[place]))
                self.leave(places[stay:])

    def save(self, store: Store) -> None:
        """Write the whole state."""
        tensors: Tensors = {name: getattr(self, name) for name in ROWS if name not in {"picks", "goals"}}
        tensors |= {f"memory.{name}": tensor for name, tensor in self.memory.items()}
        done = []
        for number, found in enumerate(self.done.values()):
            parts, values = found.trigger.state()
            tensors |= {f"done.{number}.{name}": tensor for name, tensor in parts.items()}
            done.append(
                {"job": asdict(found.job), "size": found.size, "steps": found.steps, "values": values}
            )
        jobs = [asdict(job) for job in self.jobs]
        values = {"step": self.step, "passes": self.passes, "jobs": jobs, "done": done}
        store.save(tensors, values | {"chosen": list(self.chosen)})

    def restore(self, state: tuple[Tensors, dict[str, Any]]) -> None:
        """Take over a state that `save` has written."""
        tensors, values = state
        kind = type(self.form.trigger(self.raw[0].cpu(), self.model.input_shape))
        for number, facts in enumerate(values["done"]):
            prefix = f"done.{number}."
            parts = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            job, trigger = _job(facts["job"]), kind.from_state(parts, facts["values"])
            self.done[job] = Found(
                job=job, trigger=trigger, size=float(facts["size"]), steps=int(facts["steps"])
            )
        place = {job: number for number, job in enumerate(self.jobs)}
        self.jobs = [_job(job) for job in values["jobs"]]
        rows = [place[job] for job in self.jobs]
        self.picks, self.goals = self.picks[rows], self.goals[rows]
        for name in ROWS:
            if name in tensors:
                setattr(self, name, tensors[name].to(self.device))
        self.memory = {name: tensors[f"memory.{name}"].to(self.device) for name in self.memory}
        self.step, self.passes = int(values["step"]), int(values["passes"])
        self.chosen = tuple(values["chosen"])

    def finish(self, store: Store, title: str, stop: Callable[[], bool]) -> Searched:
        """Run to the end, from the stored state if there is one; or until `stop` says so."""
        state = store.load()
        if state is not None:
            self.restore(state)
        saved, complete = time.monotonic(), True
        with self.run.progress.task(title, self.plan.steps) as task, self.asking.at_work():
            task.advance(self.step)
            while self.step < self.plan.steps and self.jobs:
                if stop():
                    complete = False
                    break
                try:
                    if not self.turn():
                        break
                except KeyboardInterrupt:
                    self.save(store)
                    raise
                self.climb()
                task.advance(1, note=f"{len(self.jobs)} labels left")
                if time.monotonic() - saved > SNAPSHOT_SECONDS:
                    self.save(store)
                    saved = time.monotonic()
        jobs = [*self.done, *self.jobs]
        self.leave(range(len(self.jobs)))
        if complete:
            self.save(store)
        return Searched(
            found={job: self.done[job] for job in sorted(jobs, key=order)},
            passes=self.passes,
            complete=complete,
        )


def _job(values: dict[str, Any]) -> Job:
    return Job(aim=Aim(**values["aim"]), start=int(values["start"]))


def search(
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    jobs: Sequence[Job],
    plan: Plan,
    *,
    run: Run,
    controls: Collection[Job] = (),
    starts: Mapping[Job, torch.Tensor] | None = None,
    title: str = "searching",
    stop: Callable[[], bool] = lambda: False,
    choose: Choice | None = None,
) -> Searched:
    """Look for the smallest change of images that does each job.

    Args:
        model: the network; unchanged.
        images: clean images (N, C, H, W) in [0, 1].
        truth: their labels, or the network's answers (N,).
        jobs: what to look for, each once.
        plan: how.
        run: device, seed, progress, checkpoint.
        controls: jobs that no rung takes out.
        starts: what jobs begin with, in the form's raw numbers; the others begin at random.
        title: what the progress shows.
        stop: asked before each step; where it says yes, the search ends with what it has.
        choose: asked before each step which jobs it advances (places among `jobs`); each step then
            counts as one of the plan's, and no job leaves at a rung. What it says must depend on what it
            is given and on nothing that a resumed run would not know.

    Raises:
        DataError: images of another shape, or fewer than 2 that a job is about.
        LabelError: no job, one twice, or a label beyond the model's classes.
        OptionError: rungs beside a choice.

    """
    model.check(images)
    if choose is not None and plan.rungs:
        raise OptionError(f"expected no rungs where each step's jobs are chosen, got {plan.rungs}")
    named = {label for job in jobs for label in (job.aim.target, job.aim.source) if label is not None} or {0}
    if not jobs or len(set(jobs)) < len(jobs) or max(named) >= model.num_classes:
        raise LabelError(
            f"expected jobs for labels of 0 to {model.num_classes - 1}, each once, "
            f"got {len(jobs)} with labels {sorted(named)[:5]}"
        )
    work = _Search(model, images, truth, jobs, controls, plan, starts or {}, run, choose)
    fingerprint = {
        "plan": asdict(plan),
        "jobs": [asdict(job) for job in jobs],
        "controls": sorted(map(str, controls)),
        "starts": {str(job): tensor_digest(raw) for job, raw in (starts or {}).items()},
        "model": digest(model.network),
        "preprocessing": str(model.preprocessing),
        "images": tensor_digest(images),
        "truth": tensor_digest(truth),
        "chosen": choose is not None,
        "half": work.asking.half,
    }
    return work.finish(run.store("search", fingerprint), title, stop)
