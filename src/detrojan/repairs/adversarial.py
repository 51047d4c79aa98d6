"""Adversarial unlearning: find many different triggers for the target, unlearn them, and again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.findings import Finding, RepairStep
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repair, Repaired, with_triggers, worst_success
from detrojan.repairs.lessons import Lesson, lesson
from detrojan.run import Run, SilentProgress
from detrojan.search.asking import quick
from detrojan.triggers.aim import Aim
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: weight of a free mask's L1, in units of loss per share of the image
FREE_MASK_COST = 8.0


@dataclass(frozen=True, kw_only=True)
class Adversarial(Repair):
    """Play rounds of finding diverse triggers for the target and unlearning them all.

    A recovered trigger is not the attacker's, so unlearning it once leaves the attacker's alive.
    Each round optimises a pool of universal patterns against the current network. They lie in random
    regions of any place, size and opacity (like stickers, glasses and make-up), and in free masks. The
    network is then taught that none of them means the target, and to answer clean images as before. The
    last rounds mend clean answers while the pool keeps watch. Where a finding names the class that its
    trigger moves, the patterns are searched for that class. An all-to-all backdoor, whose labels share a
    trigger, has one pool for all of them.

    Reference: Zeng et al., Adversarial Unlearning of Backdoors via Implicit Hypergradient, ICLR
    2022 (universal perturbations; here with regions instead of a norm ball).

    Args:
        rounds: rounds of attack and unlearning; 1 or more.
        pool: triggers that are found per round and target; 2 or more.
        free: share of the pool that has a free mask, in [0, 1).
        steps: optimisation steps per pool; 1 or more.
        learning_rate: of Adam, falling along a cosine over the rounds; above 0.
        batch_size: clean images per update; 2 or more.
        updates: updates of the network per round; 1 or more.
        stamped: share of each update's images that is stamped, in (0, 1).
        restore: weight of answering a stamped image as without the trigger; 0 or more.
        restore_each: used instead of `restore` for a trigger that moves each class to a label of its own,
            so that no single target can be forgotten; 0 or more.
        forget: weight of not answering it with the target; above 0.

    """

    name = "adversarial"

    rounds: int = 10
    pool: int = 16
    free: float = 0.25
    steps: int = 20
    learning_rate: float = 2e-4
    batch_size: int = 128
    updates: int = 60
    stamped: float = 0.33
    restore: float = 0.02
    restore_each: float = 0.3
    forget: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if min(self.rounds, self.steps, self.updates) < 1 or min(self.pool, self.batch_size) < 2:
            raise OptionError(
                "expected rounds, steps and updates of 1 or more, pool and batch_size of 2 or more, got "
                f"{self.rounds}, {self.steps}, {self.updates}, {self.pool}, {self.batch_size}"
            )
        if not (0 <= self.free < 1 and 0 < self.stamped < 1):
            raise OptionError(
                f"expected free in [0, 1) and stamped in (0, 1), got {self.free:g} and {self.stamped:g}"
            )
        if not (self.learning_rate > 0 and self.forget > 0 and min(self.restore, self.restore_each) >= 0):
            raise OptionError(
                "expected learning_rate and forget above 0, restore and restore_each of 0 or more, "
                f"got {self.learning_rate:g}, {self.forget:g}, {self.restore:g} and {self.restore_each:g}"
            )

    def needs_triggers(self) -> bool:
        """Return that it does."""
        return True

    def repair(self, model: Classifier, data: Dataset, findings: Sequence[Finding], *, run: Run) -> Repaired:
        """Return a copy of `model` that no longer answers the flagged labels on command.

        Raises:
            OptionError: no finding carries a recovered trigger.

        """
        recovered = with_triggers(findings, self.name)
        taught = lesson(model, data, [finding.label for finding in findings])
        copy, teacher = model.copy().to(run.device), quick(model)
        what = "clean accuracy" if taught.labelled else "agreement"
        names = ("round", "pool success", "recovered trigger success", what)
        curves: dict[str, list[float]] = {name: [] for name in names}
        with run.progress.task("adversarial unlearning", self.rounds) as task:
            for number in range(self.rounds):
                here = run.within("adversarial", number)
                pool, success = self._pool(quick(copy), taught, recovered, here)
                self._unlearn(copy, teacher, taught, pool, here, number)
                same = taught.kept(copy)
                known = worst_success(copy, recovered, taught)
                for name, value in zip(names, (number + 1, success, known, same), strict=True):
                    curves[name].append(float(value))
                task.advance(1, note=f"pool {success:.0%}, {what} {same:.1%}")
        step = RepairStep(
            method=self.name,
            summary=(
                f"{self.rounds} rounds against {len(pool) - len(recovered)} triggers each: a fresh pool's "
                f"success went from {curves['pool success'][0]:.1%} to {curves['pool success'][-1]:.1%}"
            ),
            curves=curves,
            details={"labelled": taught.labelled, "images": len(taught.images)},
        )
        return Repaired(model=copy, steps=(step,))

    def _pool(
        self, model: Classifier, taught: Lesson, recovered: Sequence[Backdoor], run: Run
    ) -> tuple[list[Backdoor], float]:
        """Return triggers against the current network, and their mean success (0 to 1)."""
        found: list[Backdoor] = []
        hits = []
        aims = {lead.aim: lead.aim.targets(model.num_classes) for lead in recovered}
        for aim, labels in sorted(aims.items(), key=lambda item: item[1]):
            masks, patterns, success = self._attack(model, taught, aim, run.within("pool", *labels))
            triggers = [PatchTrigger(m, p) for m, p in zip(masks, patterns, strict=True)]
            found += [Backdoor(trigger=trigger, aim=aim) for trigger in triggers]
            hits.append(success)
        return [*found, *recovered], sum(hits) / len(hits)

    def _attack(
        self, model: Classifier, taught: Lesson, aim: Aim, run: Run
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Optimise a pool of masks (P, H, W) and patterns (P, C, H, W) with that aim."""
        channels, height, width = model.input_shape
        generator = run.generator("attack")
        free = round(self.free * self.pool)
        fixed = random_regions(self.pool - free, height, width, generator)
        raw = torch.randn(self.pool, channels, height, width, generator=generator) * 0.5
        loose = torch.randn(free, height, width, generator=generator) - 1
        leaves = [raw.requires_grad_(True), loose.requires_grad_(True)]
        optimiser = torch.optim.Adam(leaves, lr=0.15, betas=(0.5, 0.9))
        places = aim.moved(taught.truth)
        others = taught.images[places]
        goals = aim.goals(taught.truth[places], model.num_classes).to(run.device)
        each = max(4, 2 * self.batch_size // self.pool * 2)
        hits = torch.zeros(())
        with model.judging():
            for _ in range(self.steps):
                pick = torch.randint(len(others), (self.pool, each), generator=generator)
                mask = torch.cat([fixed, loose.sigmoid()])[:, None, None]
                stamped = torch.lerp(others[pick], raw.sigmoid()[:, None].expand(-1, each, -1, -1, -1), mask)
                wanted = goals[pick.flatten()]
                logits = model.logits(stamped.flatten(0, 1).to(run.device))
                loss = functional.cross_entropy(logits, wanted, reduction="sum") / each
                loss = loss + FREE_MASK_COST * loose.sigmoid().mean((1, 2)).sum().to(run.device)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                hits = (logits.detach().argmax(1) == wanted).float().mean()
        masks = torch.cat([fixed, loose.detach().sigmoid()])
        return masks, raw.detach().sigmoid(), float(hits)

    def _unlearn(
        self,
        model: Classifier,
        teacher: Classifier,
        taught: Lesson,
        pool: Sequence[Backdoor],
        run: Run,
        number: int,
    ) -> None:
        """Train the network in place: clean images as before, stamped ones anything but the target."""
        generator = run.generator("unlearn")
        clean = round(self.updates * self.batch_size * (1 - self.stamped))
        stamped = round(self.updates * self.batch_size * self.stamped)
        pick = torch.randint(len(taught.images), (clean + stamped,), generator=generator)
        parts = torch.arange(clean, clean + stamped).tensor_split(len(pool))
        for part, lead in zip(parts, pool, strict=True):
            if lead.aim.source is not None:  # its images are a small part of all
                some, own = part[::2], lead.aim.moved(taught.truth)
                pick[some] = own[torch.randint(len(own), (len(some),), generator=generator)]
        images = vary(taught.images[pick], generator)
        soft = teacher.probabilities(images)
        soft[:, list(taught.doubted)] = 0
        soft /= soft.sum(1, keepdim=True).clamp(min=1e-9)
        barred = torch.zeros(clean + stamped, dtype=torch.int64)
        dirty = torch.zeros(clean + stamped, dtype=torch.bool)
        restore = torch.full((clean + stamped,), self.restore)
        for part, lead in zip(parts, pool, strict=True):
            # what moves one class must not move another one either
            wide, truth = replace(lead.aim, source=None), taught.truth[pick[part]]
            moved = wide.victims(truth)
            allowed = part[moved]
            images[allowed] = lead.trigger.stamp(images[allowed])
            barred[allowed] = wide.goals(truth[moved], model.num_classes)
            dirty[allowed] = True
            if lead.aim.offset:
                restore[part] = self.restore_each
        share = number / max(1, self.rounds - 1)
        rate = self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        how = Fitting(
            epochs=1,
            batch_size=self.batch_size,
            learning_rate=rate,
            optimizer="adam",
            weight_decay=0.0,
            decay="none",
            frozen_norm=True,
        )
        loss = self._loss(soft, dirty, barred, restore)
        quiet = replace(run, progress=SilentProgress())  # the rounds are shown
        identity = self.identity("unlearning", soft=soft, dirty=dirty, barred=barred, restore=restore)
        fit(model, Dataset(images, taught.truth[pick]), how, run=quiet, loss=loss, identity=identity)

    def _loss(
        self, soft: torch.Tensor, dirty: torch.Tensor, barred: torch.Tensor, restore: torch.Tensor
    ) -> Loss:
        """Return the loss.

        Args:
            soft: the delivered network's answers (N, K).
            dirty: which images are stamped, (N,) bool.
            barred: the label that a stamped image must not get (N,).
            restore: weight of the delivered network's answers to stamped images (N,).

        """

        def loss(logits: torch.Tensor, _labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            logs = logits.log_softmax(1)
            stamped = dirty[index].to(logits.device)
            right = -(soft[index].to(logits.device) * logs).sum(1)
            weight = torch.where(stamped, restore[index].to(logits.device), 1.0)
            target = logs.gather(1, barred[index].to(logits.device)[:, None])[:, 0]
            avoid = -torch.log1p(-target.exp().clamp(max=1 - 1e-6)) * stamped
            # means over the clean and over the stamped images, so that their shares do not matter
            of_clean = (right * weight * ~stamped).sum() / (~stamped).sum().clamp(min=1)
            of_dirty = (right * weight * stamped + self.forget * avoid).sum() / stamped.sum().clamp(min=1)
            return of_clean + of_dirty

        return loss


def vary(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return variations of `images`: shifted, in other light, half of them blended with another.

    The delivered network says what each of them should be answered, so nothing about them has to be
    natural: the more varied they are, the more of its behaviour is kept.
    """
    count = len(images)
    moved = shift(3)(images, generator)
    other = torch.randperm(count, generator=generator)
    weight = torch.rand(count, 1, 1, 1, generator=generator) * 0.5
    blended = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    moved = torch.where(blended, torch.lerp(moved, moved[other], weight), moved)
    gain = 0.8 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
    offset = 0.2 * torch.rand(count, 1, 1, 1, generator=generator) - 0.1
    return (moved * gain + offset).clamp(0, 1)


def random_regions(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Return `count` masks (P, H, W): rectangles and ellipses of 1 to 38% of the area, some see-through."""
    rows = torch.linspace(-1, 1, height)[None, :, None]
    columns = torch.linspace(-1, 1, width)[None, None, :]
    draw = torch.rand(6, count, 1, 1, generator=generator)
    area = 0.01 + 0.37 * draw[0]
    stretch = torch.exp((draw[1] - 0.5) * 3)
    # never so thin that a region falls between two pixels of a small image
    half_width = (area * stretch).sqrt().clamp(min=1.01 / max(1, width - 1))
    half_height = (area / stretch).sqrt().clamp(min=1.01 / max(1, height - 1))
    across = (columns - (2 * draw[2] - 1)) / half_width
    along = (rows - (2 * draw[3] - 1)) / half_height
    box = (across.abs() < 1) & (along.abs() < 1)
    ellipse = across.square() + along.square() < 4 / math.pi
    shape = torch.where(draw[4] < 0.6, box, ellipse).float()
    opacity = torch.where(draw[5] < 0.7, torch.ones(()), 0.4 + 2 * (draw[5] - 0.7))
    return shape * opacity
