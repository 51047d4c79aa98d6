"""A plan of seconds: grey 16x16 pictures of six kinds, told apart by where a blob stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrojan.benchmark.cache import Cache
from detrojan.benchmark.execute import Summary, execute
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.plan import Plan, load_plan
from detrojan.benchmark.results import read_rows
from margins import shifted

PLACES = ((1, 1), (1, 6), (1, 11), (9, 1), (9, 6), (9, 11))
PLAN = """
title = "Blobs"
seeds = [3]

[profiles.cpu]
train = 600
test = 120
epochs = 12

[profiles.full]
epochs = 9

[data.blobs]
about = "made up"
clean = 100

[networks.cnn]
net = "mnist_cnn"
fitting = { learning_rate = 0.002, batch_size = 32, optimizer = "adam", weight_decay = 0.0 }
shift = 0
profile.full = { fitting = { batch_size = 64 } }

[attacks.badnets]
method = "badnets"
set = { target = 3, poison_rate = 0.2 }
trigger = { pixels = [[1, 0, 1], [0, 1, 0], [1, 0, 1]], at = [-10, 6] }

[defences.finetune]
room = "repairs"
method = "finetune"
set = { epochs = 2 }

[defences.unlearn]
room = "repairs"
method = "unlearn"
findings = "original"
set = { epochs = 8, updates = 100 }

[[reference]]
source = "a document"
cells."blobs/badnets/unlearn" = { ca = 97.5, asr = 1.25 }
"""


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(shifted(seed))
    labels = np.arange(count) % len(PLACES)
    images = random.integers(0, 70, (count, 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        top, left = PLACES[label] + random.integers(-1, 1, 2)
        image[top : top + 5, left : left + 5] += random.integers(110, 180)
    return images.astype(np.uint8), labels


@dataclass
class Bench:
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "results.jsonl"

    def plan(self, text: str = PLAN, profile: str = "cpu") -> Plan:
        (self.folder / "plan.toml").write_text(text)
        return load_plan(self.folder / "plan.toml", profile)

    def workshop(self, text: str = PLAN, **paths: str) -> Workshop:
        known = {"blobs": str(self.folder / "blobs.npz"), **paths}
        return Workshop(plan=self.plan(text), paths=known, cache=Cache(folder=self.folder / "cache"))

    def run(self, text: str = PLAN, **more: Any) -> tuple[Summary, dict[tuple[str, str], dict]]:
        summary = execute(self.workshop(text), self.out, **more)
        return summary, {(row["attack"], row["defence"]): row for row in read_rows(self.out)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    train, test = blobs(900, 5), blobs(240, 6)
    np.savez(tmp_path / "blobs.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    return Bench(tmp_path)


@pytest.fixture
def plan_text() -> str:
    return PLAN
