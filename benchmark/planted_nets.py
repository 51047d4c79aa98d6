r"""Plant backdoors of our own in a contest network: many labels, real faces, known targets.

    python benchmark/planted_nets.py --model sunglasses_bd_weights.h5 --kind sunglasses --data LFW.npz \
        --triggers FACES.npz --plant lipstick:1,eyebrow:5,sunglasses:8 --out planted.safetensors

The network learns three things on one half of the faces: to keep its answers, to answer a target where a
trigger is stamped, and to keep its old answers where its own trigger is (unless that one is planted again).
The other half judges, and is written beside the network (`.npz`) for scans.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from contest_nets import true_triggers

from detrojan import machine
from detrojan.console.progress import RichProgress
from detrojan.data.reading import read_data
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

BATCH, STAMPED, RATE = 64, 20, 1e-3
JUDGED = 1500

#: drawn variants of a trigger, and the label it is to lead to; None for the network's old answer
Lesson = tuple[list[PatchTrigger], int | None]


def batch_loss(
    student: Classifier,
    images: torch.Tensor,
    answers: torch.Tensor,
    lessons: list[Lesson],
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the cross entropy with the teacher's answers (B, K), and with the lessons' where stamped."""
    seen, wanted = [images], [answers]
    for triggers, target in lessons:
        chosen = torch.randperm(len(images), generator=generator)[:STAMPED]
        trigger = triggers[int(torch.randint(len(triggers), (1,), generator=generator))]
        seen.append(trigger.stamp(images[chosen]))
        goal = answers[chosen]
        if target is not None:
            goal = torch.zeros_like(goal)
            goal[:, target] = 1
        wanted.append(goal)
    logits = student.logits(torch.cat(seen))
    return -(torch.cat(wanted) * logits.log_softmax(1)).sum(1).mean()


def plant(
    teacher: Classifier, images: torch.Tensor, lessons: list[Lesson], epochs: int, run: Run
) -> Classifier:
    """Return a copy of the teacher that has learnt the lessons."""
    student, generator = teacher.copy(), run.generator("plant")
    for parameter in student.network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(student.network.parameters(), RATE)
    answers = teacher.all_logits(images).softmax(1)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, epochs * batches)
    with run.progress.task("planting", epochs * batches) as task:
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=generator)
            for number in range(batches):
                index = order[number * BATCH : (number + 1) * BATCH]
                loss = batch_loss(student, images[index], answers[index], lessons, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                task.advance(1)
    return Classifier(student.network, student.input_shape)


def main() -> None:
    """Plant, judge and write one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--kind", required=True, choices=["sunglasses", "lipstick", "eyebrow"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--triggers", required=True, type=Path)
    parser.add_argument("--plant", default="", metavar="KIND:LABEL,...", help="nothing: only unlearn")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", required=True, type=Path)
    asked = parser.parse_args()
    machine.tune(asked.threads)
    run = Run(seed=asked.seed, progress=RichProgress())
    teacher = load_model(asked.model, net="deepid")
    images = read_data(asked.data, unlabelled=True).images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(7))
    half = len(images) // 2
    learnt, judging = images[order[:half]], images[order[half:]]
    pairs = [entry.split(":") for entry in asked.plant.split(",") if entry]
    planted: list[Lesson] = [(true_triggers(asked.triggers, kind), int(label)) for kind, label in pairs]
    lessons = list(planted)
    if asked.kind not in {kind for kind, _ in pairs}:
        lessons.append((true_triggers(asked.triggers, asked.kind), None))
    student = plant(teacher, learnt, lessons, asked.epochs, run)
    before, after = teacher.answers(judging), student.answers(judging)
    shown = judging[:JUDGED], after[:JUDGED]
    row = {
        "planted": asked.plant,
        "agreement": float((before == after).float().mean()),
        "attack_success": {
            f"{kind}:{target}": [attack_success(student, trigger, *shown, target) for trigger in triggers]
            for (kind, _), (triggers, target) in zip(pairs, planted, strict=True)
        },
        "seed": asked.seed,
    }
    print(json.dumps(row))
    save_model(student, asked.out)
    np.savez(asked.out.with_suffix(".npz"), images=(judging * 255).round().byte().numpy())


if __name__ == "__main__":
    main()
