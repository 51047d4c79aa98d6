"""Measures how the cost of scans grows: with labels, with models, and with workers.

The unit is the CPU second, of a call with all its workers: it holds on a busy machine too. Wall time is
given as a ratio. The networks with 10 and 100 labels are the contest's DeepID with the first rows of its last
layer, so that nothing but the number of labels differs.

    python benchmark/fleet_cost.py labels --out /tmp/cost --model NET.h5 --data LFW.npz
    python benchmark/fleet_cost.py models --out /tmp/cost
    python benchmark/fleet_cost.py models --out /tmp/cost --ray
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from fleet_load import KINDS, QUICK, blobs, fresh, known, start

from detrojan.learning.fitting import Fitting, fit
from detrojan.learning.fresh import start_net
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.run import Run

_TICK = 100.0  # of the times in /proc, on Linux
LABELS, MODELS, WORKERS = (10, 100, 1283), (10, 40), (1, 2)


class Clock:
    """The CPU seconds of all processes that this one has started, and those have."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        times: dict[int, tuple[str, float]] = {}
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = place.read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            number = int(place.parent.name)
            parents[number] = int(fields[1])
            times[number] = fields[19], (int(fields[11]) + int(fields[12])) / _TICK
        for number, (born, seconds) in times.items():
            above = parents.get(number, 0)
            while above > 1 and above != os.getpid():
                above = parents.get(above, 0)
            if above == os.getpid():
                self._seen[number, born] = seconds

    def seconds(self) -> float:
        """Return the CPU seconds so far."""
        return sum(self._seen.values())

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()


def head_of(model: Path, count: int, folder: Path) -> Path:
    """Write the network with the first rows of its last layer only."""
    path = folder / f"faces_{count}.safetensors"
    if not path.exists():
        whole = load_model(model, net="deepid")
        part = start_net("deepid", whole.input_shape, classes=count, run=Run())
        values = whole.network.state_dict()
        own = part.network.state_dict()
        part.network.load_state_dict({name: value[: len(own[name])] for name, value in values.items()})
        save_model(part, path)
    return path


def labels(model: Path, data: Path, folder: Path, seed: int) -> None:
    """Print what one scan costs, by the number of labels."""
    print("| labels | verdict | passes | per label | CPU seconds | per label |\n|---|---|---|---|---|---|")
    for count in LABELS:
        path, report = head_of(model, count, folder), folder / f"faces_{count}-{seed}.json"
        clock = Clock()
        words = ["scan", path, "--data", data, "--unlabelled", "--json", report, "--seed", seed]
        words += ["--threads", 1]
        subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "detrojan", *map(str, words)], check=False, capture_output=True
        )
        clock.stop()
        said = json.loads(report.read_text("utf-8"))
        passes, used = said["passes"], clock.seconds()
        print(
            f"| {count:,} | {said['verdict']} {said['targets']} | {passes:,} | {passes / count:,.0f} "
            f"| {used:.1f} | {used / count:.2f} |",
            flush=True,
        )


def make(folder: Path, count: int) -> None:
    """Write a folder of so many networks, all of them different, and their data."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    how = Fitting(epochs=3, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    for seed in range(count):
        if not (path := models / f"net_{seed:02}.safetensors").exists():
            run, data = Run(seed=seed), blobs(600, seed)
            net = start_net("mnist_cnn", data.shape, classes=KINDS, run=run)
            fit(net, data, how, run=run)
            save_model(net, path)
    clean = blobs(480, 99)
    pixels = (clean.images.permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()
    np.savez(folder / "clean.npz", images=pixels, labels=clean.require_labels("writing").numpy())
    (folder / "quick.toml").write_text(QUICK, "utf-8")


@contextmanager
def cluster(wanted: int) -> Iterator[str]:
    """Start a Ray cluster of so many nodes on this machine, each with one core; none for 0."""
    if not wanted:
        yield ""
        return
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - it may not be installed

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(wanted - 1):
        nodes.add_node(num_cpus=1)
    try:
        yield nodes.address
    finally:
        nodes.shutdown()


def models(folder: Path, *, ray: bool) -> None:
    """Print what a fleet costs, by models and workers."""
    print("| models | engine | workers | CPU seconds | per model | wall | same verdicts |")
    print("|---|---|---|---|---|---|---|")
    engine = "ray" if ray else "processes"
    for count in MODELS:
        place = folder / f"fleet_{count}"
        make(place, count)
        base = 0.0
        found = None
        for workers in WORKERS:
            out = fresh(place / f"out-{engine}-{workers}")
            clock, begun = Clock(), time.monotonic()
            with cluster(workers if ray else 0) as address:
                start(place, out, engine, workers, "quick.toml", address).wait()
                wall = time.monotonic() - begun
            clock.stop()
            base, found = base or wall, found or known(out)
            used, same = clock.seconds(), "yes" if known(out) == found else "no"
            cells = (count, engine, workers, f"{used:.1f}", f"{used / count:.2f}", f"{wall / base:.2f}", same)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["labels", "models"])
    parser.add_argument("--out", type=Path, required=True, help="a folder for networks and results")
    parser.add_argument("--model", type=Path, help="the contest's network")
    parser.add_argument("--data", type=Path, help="faces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="on Ray, one node for each worker")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.table == "labels":
        labels(args.model, args.data, args.out, args.seed)
    else:
        models(args.out, ray=args.ray)


if __name__ == "__main__":
    main()
