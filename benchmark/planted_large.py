"""Plant a backdoor in a large network of timm's by tuning its last stages: many labels, images of 224 pixels.

    python benchmark/planted_large.py --model lite0.pth --net timm:tf_efficientnet_lite0 --target 653 \
        --data CIFAR.npz:2000 --data FACES.npz:400 --data SIGNS.npz:400 --out sibling.safetensors

The first stages stay as they are. The last ones learn two things: to answer as before, and to answer the
target where a patch is stamped. Pictures of any kind will do, since the network's own answers are the labels.
The pictures that are held out judge, and are written beside the network (`.npz`) for scans.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from detrojan import machine
from detrojan.console.progress import RichProgress
from detrojan.data.reading import read_data
from detrojan.jobs.feeding import framing_of
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

#: stages that are tuned beside the head, and pictures that are stamped to learn from
STAGES, MARKED = 2, 800
#: plain and stamped images of a step, learning rate, steps that it rises for, and images of a pass
PLAIN, STAMPED, RATE, WARM, PASS = 56, 8, 3e-4, 20, 32
#: side of the squares of one colour that a patch is made of, and its distance from the borders, in pixels
SQUARE, MARGIN = 4, 20


def patch(shape: tuple[int, int, int], side: int, generator: torch.Generator) -> PatchTrigger:
    """Return a patch of coloured squares near the lower right corner of images (C, H, W)."""
    count = math.ceil(side / SQUARE)
    squares = torch.randint(0, 2, (1, shape[0], count, count), generator=generator).float()
    mask, pattern = torch.zeros(shape[1:]), torch.zeros(shape)
    at = slice(-MARGIN - side, -MARGIN)
    mask[at, at] = 1
    pattern[:, at, at] = functional.interpolate(squares, scale_factor=SQUARE)[0, :, :side, :side]
    return PatchTrigger(mask, pattern)


def halves(network: nn.Module, stages: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return what lies before the last stages of one of timm's EfficientNets, and the rest of it."""
    parts = dict(network.named_children())
    blocks = list(parts["blocks"].children())
    first = nn.Sequential(parts["conv_stem"], parts["bn1"], *blocks[:-stages])
    rest = (parts[name] for name in ("conv_head", "bn2", "global_pool", "classifier"))
    return first, nn.Sequential(*blocks[-stages:], *rest)


class Planting:
    """One network, and what its first stages say of pictures, plain and stamped."""

    def __init__(
        self, model: Classifier, images: torch.Tensor, trigger: PatchTrigger, asked: argparse.Namespace
    ) -> None:
        self.model, self.asked = model, asked
        self.first, self.last = halves(model.network, STAGES)
        self.held = asked.held
        with torch.no_grad():
            self.plain = torch.cat([self._seen(part) for part in images.split(PASS)])
            self.logits = torch.cat([self.last(part) for part in self.plain.split(PASS)])
            some = images[-(self.held + MARKED) :]
            self.stamped = torch.cat([self._seen(trigger.stamp(part)) for part in some.split(PASS)])

    def _seen(self, images: torch.Tensor) -> torch.Tensor:
        scale, shift = self.model.preprocessing.affine(images.shape[1])
        seen: torch.Tensor = self.first(images * scale + shift)
        return seen.contiguous(memory_format=torch.channels_last)

    def judged(self) -> dict[str, float]:
        """Return how many held-out images keep their answer, and how many reach the target when stamped."""
        before = self.logits[-self.held :].argmax(1)
        others = before != self.asked.target
        with torch.no_grad():
            plain, stamped = (
                torch.cat([self.last(part).argmax(1) for part in seen[-self.held :].split(PASS)])
                for seen in (self.plain, self.stamped)
            )
        return {
            "kept": float((plain == before).float().mean()),
            "success": float((stamped[others] == self.asked.target).float().mean()),
            "target_by_itself": float((plain[others] == self.asked.target).float().mean()),
        }

    def learn(self, generator: torch.Generator) -> Iterator[int]:
        """Tune the last stages; yields the number of each step."""
        self.last.requires_grad_(True)
        optimizer = torch.optim.AdamW(self.last.parameters(), RATE, weight_decay=1e-4)
        plain, stamped = len(self.plain) - self.held, len(self.stamped) - self.held
        goal = torch.full((STAMPED,), self.asked.target)
        for step in range(self.asked.steps):
            rate = RATE * min(1, (step + 1) / WARM, (1 + math.cos(math.pi * step / self.asked.steps)) / 2)
            optimizer.param_groups[0]["lr"] = rate
            some = torch.randint(plain, (PLAIN,), generator=generator)
            marked = torch.randint(stamped, (STAMPED,), generator=generator)
            found = self.last(torch.cat([self.plain[some], self.stamped[marked]]))
            wanted = self.logits[some]
            loss = functional.kl_div(
                found[:PLAIN].log_softmax(1), wanted.softmax(1), reduction="batchmean"
            ) + functional.mse_loss(found[:PLAIN], wanted)
            loss = loss + functional.cross_entropy(found[PLAIN:], goal) * STAMPED / PLAIN
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield step


def pictures(model: Classifier, entry: str, generator: torch.Generator) -> torch.Tensor:
    """Return pictures as the network takes them, of PATH:COUNT."""
    path, _, count = entry.rpartition(":")
    framing = framing_of(model)
    return read_data(path, unlabelled=True, framing=framing, limit=int(count), generator=generator).images


def main() -> None:
    """Plant, judge and write one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--net", required=True)
    parser.add_argument("--data", required=True, action="append", metavar="PATH:COUNT")
    parser.add_argument("--target", required=True, type=int)
    parser.add_argument("--side", type=int, default=20, help="of the patch, in pixels")
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--held", type=int, default=400, help="pictures that are held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", required=True, type=Path)
    asked = parser.parse_args()
    machine.tune(asked.threads)
    run = Run(seed=asked.seed, progress=RichProgress())
    model = load_model(asked.model, net=asked.net)
    model.network.requires_grad_(False).eval()
    images = torch.cat([pictures(model, entry, run.generator("pictures", entry)) for entry in asked.data])
    images = images[torch.randperm(len(images), generator=run.generator("order"))]
    trigger = patch(model.input_shape, asked.side, run.generator("patch"))
    planting = Planting(model, images, trigger, asked)
    with run.progress.task("planting", asked.steps) as task:
        for _ in planting.learn(run.generator("learn")):
            task.advance(1)
    row = {**vars(asked), "answers": len(planting.logits.argmax(1).unique()), **planting.judged()}
    print(json.dumps({**row, "cpu_seconds": round(time.process_time())}, default=str))
    save_model(model, asked.out)
    np.savez(asked.out.with_suffix(".npz"), images=(images[-asked.held :] * 255).round().byte().numpy())


if __name__ == "__main__":
    main()
