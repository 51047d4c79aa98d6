"""A small world for the verbs: grey 16x16 pictures of six kinds, a backdoored network and a clean twin."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from detrojan.cli.main import main
from margins import shifted

#: where the blob of each kind stands, (row, column)
PLACES = ((1, 1), (1, 6), (1, 11), (9, 1), (9, 6), (9, 11))
TARGET = 3
#: a scan of a second or two on these networks
QUICK = (
    "--method",
    "neural_cleanse",
    "--set",
    "steps=90",
    "--set",
    "mini_batches=2",
    "--set",
    "batch_size=16",
    "--set",
    "samples=200",
    "--set",
    "statistic=median",
)


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (count, 16, 16, 1) uint8, each with a bright blob where its label says."""
    random = np.random.default_rng(shifted(seed))
    labels = np.arange(count) % len(PLACES)
    images = random.integers(0, 70, (count, 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        top, left = PLACES[label] + random.integers(-1, 1, 2)
        image[top : top + 5, left : left + 5] += random.integers(110, 180)
    return images.astype(np.uint8), labels


def call(*words: object) -> Result:
    """Run detrojan in this process."""
    return CliRunner().invoke(main, [str(word) for word in words])


def process(*words: object, cache: Path) -> subprocess.Popen[str]:
    """Start detrojan as a process of its own."""
    code = "from detrojan.cli.main import main; main()"
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def damaged_training(path: Path) -> Path:
    """Save data whose training images are damaged, beside a whole test split."""
    parts = {}
    for split in ("train", "test"):
        parts[f"x_{split}"], parts[f"y_{split}"] = blobs(60, 3)
    np.savez(path, **parts)
    content = path.read_bytes()
    place = content.index(parts["x_train"].tobytes()) + 500
    path.write_bytes(content[:place] + b"?" + content[place + 1 :])
    return path


@dataclass(frozen=True)
class World:
    folder: Path
    made: Result

    @property
    def model(self) -> Path:
        return self.folder / "attacked" / "model.safetensors"

    @property
    def clean(self) -> Path:
        return self.folder / "attacked" / "clean.safetensors"

    @property
    def trigger(self) -> Path:
        return self.folder / "attacked" / "trigger_0.safetensors"

    @property
    def data(self) -> Path:
        return self.folder / "blobs.npz"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Attack a small network once, through the command line itself."""
    folder = tmp_path_factory.mktemp("world")
    images, labels = blobs(480, seed=5)
    np.savez(folder / "blobs.npz", images=images, labels=labels)
    images, labels = blobs(1200, seed=6)
    np.savez(folder / "train.npz", images=images, labels=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("detrojan.machine.tune", lambda threads=None: None)
        made = call(
            "attack", "badnets", "--data", folder / "train.npz", "--test", folder / "blobs.npz",
            "--net", "mnist_cnn", "--target", TARGET, "--set", "size=5", "--poison-rate", "0.2",
            "--epochs", 10, "--fit", "batch_size=32", "--fit", "learning_rate=0.05", "--clean",
            "--out", folder / "attacked", "--format", "json",
        )  # fmt: skip
    assert made.exit_code == 0, made.output
    return World(folder, made)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every state in the test's own folder, and the process as it is for other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("detrojan.machine.tune", lambda threads=None: None)


@pytest.fixture(scope="session")
def scanned(world: World) -> Path:
    """Return a folder with the JSON of a scan that found the backdoor, and its triggers."""
    folder = world.folder / "scanned"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(world.folder / "cache"))
        patch.setattr("detrojan.machine.tune", lambda threads=None: None)
        done = call(
            "scan", world.model, "--data", world.data, *QUICK,
            "--json", folder / "scan.json", "--html", folder / "scan.html",
            "--sarif", folder / "scan.sarif", "--junit", folder / "scan.xml",
        )  # fmt: skip
    assert done.exit_code == 1, done.output
    return folder


class Cli:
    """What the tests of the verbs need, as one fixture."""

    TARGET, QUICK = TARGET, QUICK
    call = staticmethod(call)
    process = staticmethod(process)
    blobs = staticmethod(blobs)
    damaged_training = staticmethod(damaged_training)

    @staticmethod
    def npz(path, count=480, images=lambda images: images, labels=lambda labels: labels):
        """Write blobs to `path`, changed; other ones than the world's."""
        pixels, truth = blobs(count, seed=15)
        np.savez(path, images=images(pixels), labels=labels(truth))
        return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    return Cli()
