"""Trigger inversion: the smallest mask and pattern that send every image to a label, many labels at once.

Several labels share each forward pass; each keeps its own optimiser state, its own cost schedule
and its own early stop, and a label that is done leaves its place to the next. The state is
written at intervals, whole, so that an interrupted inversion goes on as if nothing had happened.

Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks, IEEE S&P 2019.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch.nn import functional

from detrojan.errors import DataError, LabelError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.asking import rewrite
from detrojan.search.schedule import Inversion, Inverted, Schedule
from detrojan.search.slots import EPSILON, Slots
from detrojan.store import Store, Tensors, digest, tensor_digest
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger

#: seconds between two snapshots of the state
SNAPSHOT_SECONDS = 5.0


class _Inverter:
    """One inversion of many labels: the loop, its buffers and its snapshots."""

    def __init__(
        self,
        model: Classifier,
        images: torch.Tensor,
        answers: torch.Tensor,
        labels: Sequence[int],
        schedule: Schedule,
        run: Run,
        slots: int,
    ) -> None:
        self.schedule = schedule
        self.run = run
        self.device = torch.device(run.device)
        self.model = model.copy().to(self.device)
        self.model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rewrite(self.model, half=False)
        # Preprocessing is affine, so stamping what the network sees is the same as preparing what
        # was stamped, and need not be done again for every batch.
        scale, shift = model.preprocessing.affine(model.input_shape[0])
        self.scale, self.shift = scale.flatten(), shift.flatten()
        seen = images.permute(0, 2, 3, 1) * self.scale + self.shift
        self.images = seen.reshape(len(images), -1)
        self.allowed = _allowed(answers, labels)
        self.labels = list(labels)
        self.waiting = list(labels)
        self.done: dict[int, Inverted] = {}
        self.passes = 0
        channels, height, width = model.input_shape
        self.slots = Slots(min(slots, len(labels)), height, width, channels)
        shape = (len(self.slots.raw), schedule.batch_size, self.images.shape[1])
        self.batch, self.stamped = torch.empty(shape), torch.empty(shape)
        for place in range(len(self.slots.raw)):
            self._occupy(place)

    def _occupy(self, place: int) -> None:
        label = self.waiting.pop(0)
        self.slots.occupy(place, label, self.run.generator("start", label))

    def _batch(self, part: int) -> torch.Tensor:
        """Return each active label's images of mini-batch `part`, (L, B, H * W * C)."""
        size = self.schedule.batch_size
        picks = []
        for label, step in zip(self.slots["label"].tolist(), self.slots["step"].tolist(), strict=True):
            allowed = self.allowed[int(label)]
            generator = self.run.generator("batch", int(label), int(step), part)
            picks.append(allowed[torch.randperm(len(allowed), generator=generator)[:size]])
        batch = self.batch[: len(picks)]
        torch.index_select(self.images, 0, torch.cat(picks), out=batch.view(-1, batch.shape[2]))
        return batch

    def _answer(self, stamped: torch.Tensor) -> torch.Tensor:
        """Return the slope of each label's mean cross entropy for `stamped`; count the successes."""
        count, size, _ = stamped.shape
        flat = stamped.view(count * size, *self.slots.raw.shape[1:3], -1).detach()
        flat = flat.to(self.device).requires_grad_(True)
        seen = self.model.preprocessing.arranged(flat.permute(0, 3, 1, 2))
        targets = self.slots["label"].long().repeat_interleave(size).to(self.device)
        logits: torch.Tensor = self.model.network(seen)
        loss = functional.cross_entropy(logits, targets, reduction="sum") / size
        (slope,) = torch.autograd.grad(loss, flat)
        hits = (logits.detach().argmax(1) == targets).view(count, size).double().mean(1).cpu()
        self.slots["last_success"] += hits / self.schedule.mini_batches
        self.passes += count * size
        return slope.reshape(stamped.shape).to(stamped.device)

    def _gradient(self, part: int) -> torch.Tensor:
        """Return the gradient of the cost with respect to `raw` on mini-batch `part`."""
        batch = self._batch(part)
        curve = self.slots.raw.tanh()
        values = curve / (2 - EPSILON) + 0.5
        # The mask is spread over the channels first: then all work on batches is along whole images.
        pattern = torch.addcmul(self.shift, values[..., 1:], self.scale)
        mask = values[..., :1].expand_as(pattern)
        stamped = self.stamped[: len(batch)]
        torch.addcmul(_rows(mask * pattern), batch, _rows(1 - mask), out=stamped)
        slope = self._answer(stamped)
        by_stamped = slope.sum(1).view_as(pattern)
        by_image = torch.mul(slope, batch, out=batch).sum(1).view_as(pattern)
        by_mask = (by_stamped * pattern - by_image).sum(-1, keepdim=True)
        by_mask += self.slots["cost"].float()[:, None, None, None]
        by_value = torch.cat([by_mask, by_stamped * mask * self.scale], -1)
        return by_value.mul_(curve.square_().neg_().add_(1)).div_(2 - EPSILON)

    def _adam(self, gradient: torch.Tensor, part: int) -> None:
        """One Adam update of every active label, each at its own count of updates."""
        slots, (beta1, beta2) = self.slots, self.schedule.betas
        updates = (slots["step"] * self.schedule.mini_batches + part + 1)[:, None, None, None]
        slots.first.lerp_(gradient, 1 - beta1)
        slots.second.lerp_(gradient.square_(), 1 - beta2)
        rate = (self.schedule.learning_rate / (1 - beta1**updates)).float()
        second = slots.second / (1 - beta2**updates).float()
        slots.raw.addcdiv_(slots.first * rate, second.sqrt_().add_(1e-8), value=-1)

    def step(self) -> None:
        """One step of every active label: its mini-batches, then its schedule."""
        self.slots["last_success"] = 0.0
        for part in range(self.schedule.mini_batches):
            self._adam(self._gradient(part), part)
        self._schedule()

    def _schedule(self) -> None:
        """Keep better masks, move each label's cost, and count towards its early stop.

        As in the reference, the success is that of the step's mini-batches, each before its update,
        while the mask that is kept is the one the last update led to.
        """
        slots, plan = self.slots, self.schedule
        values = slots.values
        size = values[..., 0].sum((1, 2)).double()
        success = slots["last_success"]
        works = success >= plan.threshold - 1e-9
        better = works & (size < slots["best_l1"])
        slots.best[better] = values[better]
        slots["best_success"] = torch.where(better, success, slots["best_success"])
        slots["best_l1"] = torch.where(better, size, slots["best_l1"])

        stale = slots["best_l1"] >= slots["stale_l1"]
        counted = torch.isfinite(slots["best_l1"])
        slots["stale"] = torch.where(stale & counted, slots["stale"] + 1, 0.0)
        slots["stale_l1"] = torch.minimum(slots["best_l1"], slots["stale_l1"])

        unset = slots["cost"] == 0
        slots["set_counter"] = torch.where(works & unset, slots["set_counter"] + 1, 0.0)
        begin = slots["set_counter"] >= plan.patience
        up = torch.where(works, slots["up_counter"] + 1, 0.0)
        down = torch.where(works, 0.0, slots["down_counter"] + 1)
        up, down = (torch.where(unset, 0.0, counter) for counter in (up, down))
        rises, falls = up >= plan.patience, down >= plan.patience
        cost = torch.where(rises, slots["cost"] * plan.multiplier, slots["cost"])
        cost = torch.where(falls, cost / plan.multiplier**1.5, cost)
        slots["cost"] = torch.where(begin, plan.initial_cost, cost)
        slots["went_up"] = torch.maximum(slots["went_up"], rises.double())
        slots["went_down"] = torch.maximum(slots["went_down"], falls.double())
        slots["up_counter"] = torch.where(rises, 0.0, up)
        slots["down_counter"] = torch.where(falls, 0.0, down)
        slots["step"] += 1

    def retire(self) -> int:
        """Take out the labels that are done, let waiting ones in, and return how many are done."""
        slots, plan = self.slots, self.schedule
        stopped = (slots["went_up"] > 0) & (slots["went_down"] > 0) & (slots["stale"] >= plan.early_stop)
        ended = (stopped | (slots["step"] >= plan.steps)).nonzero().flatten().tolist()
        for place in ended:
            result = self._result(place)
            self.done[result.label] = result
            if self.waiting:
                self._occupy(place)
            else:
                slots["active"][place] = 0
        keep = slots["active"].nonzero().flatten().tolist()
        if len(keep) < len(slots.raw):
            slots.keep(keep)
        return len(ended)

    def _result(self, place: int) -> Inverted:
        slots = self.slots
        number = {
            name: float(value)
            for name, value in zip(slots.NUMBERS, slots.numbers[place].tolist(), strict=True)
        }
        converged = math.isfinite(number["best_l1"])
        values = slots.best[place] if converged else slots.values[place]
        trigger = PatchTrigger(values[..., 0].clamp(0, 1), values[..., 1:].permute(2, 0, 1).clamp(0, 1))
        return Inverted(
            label=int(number["label"]),
            trigger=trigger,
            mask_l1=trigger.l1,
            success=number["best_success"] if converged else number["last_success"],
            converged=converged,
            steps=int(number["step"]),
        )

    def save(self, store: Store) -> None:
        """Write the whole state."""
        tensors = self.slots.tensors()
        for label, item in self.done.items():
            tensors[f"mask.{label}"] = item.trigger.mask
            tensors[f"pattern.{label}"] = item.trigger.pattern
        done = {
            str(label): {"success": i.success, "converged": i.converged, "steps": i.steps}
            for label, i in self.done.items()
        }
        store.save(tensors, {"waiting": self.waiting, "passes": self.passes, "done": done})

    def restore(self, state: tuple[Tensors, dict[str, Any]]) -> None:
        """Take over a state that `save` has written."""
        tensors, values = state
        self.slots.restore(tensors)
        self.waiting = list(values["waiting"])
        self.passes = int(values["passes"])
        for name, facts in values["done"].items():
            trigger = PatchTrigger(tensors[f"mask.{name}"], tensors[f"pattern.{name}"])
            label = int(name)
            self.done[label] = Inverted(label=label, trigger=trigger, mask_l1=trigger.l1, **facts)

    def finish(self, store: Store, title: str) -> Inversion:
        """Run to the end, from the stored state if there is one."""
        state = store.load()
        if state is not None:
            self.restore(state)
        total = len(self.labels) * self.schedule.steps
        with self.run.progress.task(title, total) as task, self.model.judging():
            task.advance(len(self.done) * self.schedule.steps + float(self.slots["step"].sum()))
            saved, pause = time.monotonic(), SNAPSHOT_SECONDS
            while len(self.done) < len(self.labels):
                before = float(self.slots["step"].sum())
                self.step()
                ended = self.retire()
                advanced = float(self.slots["step"].sum()) - before + ended * self.schedule.steps
                note = f"{len(self.done)}/{len(self.labels)} labels"
                task.advance(max(advanced, 0.0), note=note)
                if time.monotonic() - saved > pause or ended:
                    begun = time.monotonic()
                    self.save(store)
                    saved = time.monotonic()
                    pause = max(SNAPSHOT_SECONDS, 50 * (saved - begun))
        inverted = tuple(self.done[label] for label in self.labels)
        return Inversion(inverted=inverted, passes=self.passes)


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """Return (L, H, W, C) as (L, 1, H * W * C), to be spread over the images of a batch."""
    return maps.reshape(len(maps), 1, -1)


def _allowed(answers: torch.Tensor, labels: Sequence[int]) -> dict[int, torch.Tensor]:
    """Return for each label the positions of the images that are not of its class."""
    allowed = {label: Aim(target=label).victims(answers).nonzero().flatten() for label in labels}
    empty = [label for label, index in allowed.items() if len(index) < 2]
    if empty:
        raise DataError(
            f"expected images of classes other than {', '.join(map(str, empty[:5]))}, "
            "got almost none; is the input range right?"
        )
    return allowed


def invert(
    model: Classifier,
    images: torch.Tensor,
    answers: torch.Tensor,
    labels: Sequence[int],
    schedule: Schedule,
    *,
    run: Run,
    title: str = "inverting triggers",
    samples_at_once: int = 256,
) -> Inversion:
    """Recover the smallest trigger of each label.

    Args:
        model: the network; unchanged.
        images: clean images (N, C, H, W) in [0, 1].
        answers: their labels, or the network's answers (N,); images of a label's own class are not
            used for that label.
        labels: which labels to invert, each once.
        schedule: how.
        run: device, seed, progress, checkpoint.
        title: what the progress shows.
        samples_at_once: images per forward pass, which decides how many labels run side by side.

    Raises:
        DataError: images of another shape, or (almost) all of one class.
        LabelError: no label, one twice, or one beyond the model's classes.

    """
    model.check(images)
    if (
        not labels
        or len(set(labels)) < len(labels)
        or not 0 <= min(labels) <= max(labels) < model.num_classes
    ):
        raise LabelError(
            f"expected one label or more of 0 to {model.num_classes - 1}, each once, got {list(labels)}"
        )
    smallest = min(int(Aim(target=label).victims(answers).sum()) for label in labels)
    if 2 <= smallest < schedule.batch_size:
        plan = asdict(schedule) | {"batch_size": smallest}
        schedule = Schedule(**plan)
    slots = max(1, samples_at_once // schedule.batch_size)
    inverter = _Inverter(model, images, answers, labels, schedule, run, slots)
    fingerprint = {
        "schedule": asdict(schedule),
        "labels": list(labels),
        "slots": slots,
        "model": digest(model.network),
        "preprocessing": str(model.preprocessing),
        "images": tensor_digest(images),
        "answers": tensor_digest(answers),
    }
    return inverter.finish(run.store("inversion", fingerprint), title)
