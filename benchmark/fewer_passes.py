"""The cascade beside exhaustive Neural Cleanse: the targets that both name, and the passes that each takes.

    python benchmark/fewer_passes.py --model NET.h5 --net deepid --data LFW.npz --labels 0-39

Both scan the labels of `--labels` with their defaults, on the same images. Then the cascade scans all
labels of the network; what Neural Cleanse would take for these is its passes per label times their
number (`--all` has it do it). A pass is one image forward and backward.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from detrojan import __version__, machine
from detrojan.console.progress import RichProgress
from detrojan.console.types import Labels
from detrojan.data.dataset import Dataset
from detrojan.data.reading import read_data
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.scans.cascade import Cascade
from detrojan.scans.neural_cleanse import NeuralCleanse


def scanned(
    scan: Scan, model: Classifier, data: Dataset, labels: list[int] | None, run: Run
) -> dict[str, object]:
    """Return what a scan says and takes."""
    begun = time.monotonic()
    result = scan.scan(model, data, run=run, labels=labels)
    row: dict[str, object] = {
        "method": scan.name,
        "labels": len(result.findings),
        "verdict": result.verdict,
        "targets": result.targets,
        "passes": result.passes,
        "seconds": time.monotonic() - begun,
    }
    print(json.dumps(row), flush=True)
    return row


def count(row: dict[str, object], key: str) -> int:
    """Return a whole number of a row."""
    value = row[key]
    assert isinstance(value, int)
    return value


def main() -> None:
    """Scan one network in both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--net")
    parser.add_argument("--data", required=True)
    parser.add_argument("--labels", required=True, type=Labels().parse, help="e.g. 0-39")
    parser.add_argument("--all", action="store_true", help="Neural Cleanse over all labels too")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path(".cache/fewer_passes.jsonl"))
    asked = parser.parse_args()
    machine.tune(asked.threads)
    run = Run(seed=asked.seed, progress=RichProgress())
    model = load_model(asked.model, net=asked.net)
    # people that the network does not know have labels of no use to it: its own answers stand in
    data = read_data(asked.data, limit=asked.images, generator=run.generator("images"), unlabelled=True)
    some = {scan.name: scanned(scan, model, data, asked.labels, run) for scan in (Cascade(), NeuralCleanse())}
    whole = scanned(Cascade(), model, data, None, run)
    exhaustive = count(some["neural_cleanse"], "passes") / count(some["neural_cleanse"], "labels")
    needed = round(exhaustive * model.num_classes)
    if asked.all:
        needed = count(scanned(NeuralCleanse(), model, data, None, run), "passes")
    row = {
        "model": asked.model.name,
        "some": some,
        "all": whole,
        "neural_cleanse_all": {"passes": needed, "measured": asked.all},
        "fewer": needed / count(whole, "passes"),
        "seed": asked.seed,
        "threads": torch.get_num_threads(),
        "version": __version__,
        "torch": torch.__version__,
    }
    how = "took" if asked.all else "would take"
    print(f"all {model.num_classes} labels: Neural Cleanse {how} {row['fewer']:.0f} times as many passes")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with asked.out.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
