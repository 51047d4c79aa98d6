"""Measures `detrojan fleet scan`: time against workers, and kill -9 with a resume, five times.

The fleet has 40 small files: networks with and without a backdoor, copies, and files that are damaged, made
to run code, or of formats that are not read. Each call is a process of its own, as a user starts it. The
kills are spread over the whole call: each waits for so many verdicts, and then for a random moment. With
--ray a worker of a Ray cluster of two nodes is killed too, in the middle of its job.

    python benchmark/fleet_load.py --out /tmp/fleet-load
    python benchmark/fleet_load.py --out /tmp/fleet-load --only-kills --ray
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.learning.fitting import Fitting, fit
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.run import Run

KINDS, SIDE = 6, 16
PLACES = ((1, 1), (1, 6), (1, 11), (9, 1), (9, 6), (9, 11))
POLICY = """
[models]
data = "clean.npz"

[scan]
method = "neural_cleanse"
set = ["steps=90", "mini_batches=2", "batch_size=16", "samples=200", "statistic=median"]
"""
#: shorter scans, which are killed
QUICK = POLICY.replace("steps=90", "steps=30")


class Runs:
    """Unpickling it would end the process."""

    def __reduce__(self) -> Any:
        """Return what would be called."""
        return os._exit, (3,)


def blobs(count: int, seed: int) -> Dataset:
    """Return grey pictures, each with a bright blob where its label says."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    images = torch.rand(count, 1, SIDE, SIDE, generator=chance) * 0.27
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = PLACES[label]
        image[0, top : top + 5, left : left + 5] += 0.5
    return Dataset(images.clamp(0, 1), labels)


def make(folder: Path) -> None:
    """Write the fleet: 16 clean networks, 4 with a backdoor, 8 copies, and 12 files that cannot be judged."""
    models = folder / "models"
    models.mkdir(parents=True)
    how = Fitting(epochs=6, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    for seed in range(20):
        run, data = Run(seed=seed), blobs(600, seed)
        if seed % 5 == 0:
            data = BadNets(target=3, poison_rate=0.2).poison(data, run=run).data
        net = start_net("mnist_cnn", data.shape, classes=KINDS, run=run)
        fit(net, data, how, run=run)
        save_model(net, models / f"net_{seed:02}.safetensors")
    for seed in range(8):
        shutil.copy(models / f"net_{seed:02}.safetensors", models / f"copy_{seed:02}.safetensors")
    whole = (models / "net_01.safetensors").read_bytes()
    for place in range(4):
        (models / f"cut_{place}.safetensors").write_bytes(whole[: 500 + 900 * place])
        torch.save({"weight": Runs(), "place": place}, models / f"evil_{place}.pt")
        (models / f"chat_{place}.gguf").write_bytes(b"GGUF" + bytes(60 + place))
    clean = blobs(480, 99)
    pixels = (clean.images.permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()
    np.savez(folder / "clean.npz", images=pixels, labels=clean.require_labels("writing").numpy())
    (folder / "policy.toml").write_text(POLICY, "utf-8")
    (folder / "quick.toml").write_text(QUICK, "utf-8")


def start(
    folder: Path, out: Path, engine: str, workers: int, policy: str = "policy.toml", address: str = ""
) -> subprocess.Popen[bytes]:
    """Start a call; each worker has one computing thread."""
    words = ["fleet", "scan", folder / "models", "--policy", folder / policy, "--out", out]
    words += ["--engine", engine, "--workers", workers, "--threads", workers]
    words += ["--address", address] if address else []
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "detrojan", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def known(out: Path) -> list[dict[str, Any]]:
    """Return what the record says of each model, without times."""
    models = json.loads((out / "fleet.json").read_text("utf-8"))["models"]
    return [{name: value for name, value in one.items() if name not in {"seconds", "when"}} for one in models]


def timed(
    folder: Path, engine: str, workers: int, policy: str = "policy.toml"
) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds of a whole call, and what it found."""
    out = folder / f"out-{engine}-{workers}"
    shutil.rmtree(out, ignore_errors=True)
    begun = time.monotonic()
    start(folder, out, engine, workers, policy).wait()
    return time.monotonic() - begun, known(out)


def verdicts(out: Path) -> int:
    """Return how many verdicts are written by now."""
    return sum(one["status"] == "scanned" for one in known(out)) if (out / "fleet.json").exists() else 0


def fresh(out: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(out, ignore_errors=True)
    return out


def killed(
    folder: Path, workers: int, goal: int, usual: float, chance: random.Random
) -> tuple[float, int, float, list[dict[str, Any]]]:
    """Kill a call and do it again; return when, verdicts by then, seconds of the second, what it found.

    Args:
        folder: of the fleet.
        workers: of the call.
        goal: how many verdicts are waited for.
        usual: seconds of a whole call.
        chance: draws the moment: from then on, within the time of two verdicts.

    """
    out = fresh(folder / "out-killed")
    begun = time.monotonic()
    first = start(folder, out, "processes", workers, "quick.toml")
    while verdicts(out) < goal and first.poll() is None:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, usual / 10) + (0 if goal else chance.uniform(0, usual / 10)))
    if first.poll() is not None:
        raise SystemExit("the call had ended before it could be killed: try again")
    moment = time.monotonic() - begun
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = verdicts(out)
    begun = time.monotonic()
    start(folder, out, "processes", workers, "quick.toml").wait()
    return moment, kept, time.monotonic() - begun, known(out)


def on_ray(folder: Path) -> Iterator[tuple[str, float, int, list[dict[str, Any]]]]:
    """Yield what a call on two Ray nodes takes, finds and loses: left alone, and with a worker killed."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - it may not be installed

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    try:
        for what in ("left alone", "a worker killed"):
            out = fresh(folder / "out-ray")
            begun = time.monotonic()
            call = start(folder, out, "ray", 2, "quick.toml", nodes.address)
            while what != "left alone" and call.poll() is None and not _kill_worker(out):
                time.sleep(0.05)
            call.wait()
            models = known(out)
            lost = sum(len(one.pop("deaths")) for one in models)
            yield what, time.monotonic() - begun, lost, models
    finally:
        nodes.shutdown()


def _kill_worker(out: Path) -> bool:
    """Kill a Ray worker that scans, once four verdicts are known; return whether there was one."""
    if verdicts(out) < 4:
        return False
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = place.read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_part"):
            os.kill(int(place.parent.name), signal.SIGKILL)
            return True
    return False


def main() -> None:
    """Make the fleet and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the fleet and the results")
    parser.add_argument("--only-kills", action="store_true", help="leave the first table out")
    parser.add_argument("--kills", type=int, default=5, help="how often a call is killed")
    parser.add_argument("--workers", type=int, default=2, help="of the calls that are killed")
    parser.add_argument("--ray", action="store_true", help="kill a worker on two Ray nodes too")
    args = parser.parse_args()
    if not (args.out / "policy.toml").exists():
        make(args.out)
    print("| engine | workers | seconds | backdoors | same as one process |\n|---|---|---|---|---|")
    usual, found = 0.0, None
    alike: list[bool] = []
    for engine, workers in () if args.only_kills else (("here", 1), ("processes", 1), ("processes", 2)):
        usual, said = timed(args.out, engine, workers)
        found = found or said
        alike.append(said == found)
        bad = sum(one.get("verdict") == "backdoored" and one["status"] == "scanned" for one in said)
        print(
            f"| {engine} | {workers} | {usual:.1f} | {bad} | {'yes' if said == found else 'no'} |", flush=True
        )
    print("\n| killed after | verdicts kept | seconds of the next call | same record |\n|---|---|---|---|")
    usual, found = timed(args.out, "processes", args.workers, "quick.toml")
    chance = random.Random(7)  # noqa: S311 - no secret
    distinct = sum(one["status"] == "scanned" for one in found)
    for place in range(args.kills):
        goal = place * distinct // args.kills
        moment, kept, seconds, said = killed(args.out, args.workers, goal, usual, chance)
        alike.append(said == found)
        print(f"| {moment:.1f} s | {kept} | {seconds:.1f} | {'yes' if said == found else 'no'} |", flush=True)
    print(f"\nNot killed: {usual:.1f} s, {distinct} verdicts", flush=True)
    if args.ray:
        print("\n| on Ray | seconds | workers lost | same record |\n|---|---|---|---|")
        plain = [{name: value for name, value in one.items() if name != "deaths"} for one in found]
        for what, seconds, lost, said in on_ray(args.out):
            alike.append(said == plain)
            print(f"| {what} | {seconds:.1f} | {lost} | {'yes' if said == plain else 'no'} |", flush=True)
    if not all(alike):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
