"""Train, backdoor, scan and repair real networks on real data, and print what was reached.

    python benchmark/real_nets.py faces --data LFW.npz --trigger FACES.npz
    python benchmark/real_nets.py signs --data GTSRB_TRAIN.npz --test GTSRB_TEST.npz
    python benchmark/real_nets.py signs9 --data GTSRB_TRAIN.npz --test GTSRB_TEST.npz

One JSON line per network goes to --out. Clean data for scan and repair are at most 5% of the
training set and were not trained on poisoned labels; the attacker's trigger only judges.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from detrojan import machine
from detrojan.attacks.badnets import BadNets
from detrojan.console.progress import RichProgress
from detrojan.data.dataset import Dataset
from detrojan.data.equalise import equalise
from detrojan.data.reading import read_data
from detrojan.findings import ScanResult
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.repairs.adversarial import Adversarial
from detrojan.repairs.base import Repair
from detrojan.repairs.finetune import FineTune
from detrojan.repairs.prune import Prune
from detrojan.repairs.unlearn import Unlearn
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: the nine classes of the study: stop, go straight or right, and seven others
NINE = (14, 36, 1, 2, 12, 13, 17, 25, 38)


@dataclass(frozen=True)
class Task:
    """What one network is trained and attacked on."""

    name: str
    net: str
    train: Dataset
    test: Dataset
    backdoor: Backdoor
    how: Fitting
    poison_rate: float
    flip: bool = False


def _faces(arguments: argparse.Namespace) -> Task:
    """People with 20 images or more, the contest's sunglasses, target 0."""
    data = read_data(arguments.data)
    labels = data.require_labels("training")
    count = torch.bincount(labels)
    people = (count >= 20).nonzero().flatten()
    kept = torch.isin(labels, people)
    data = data.select(kept).with_labels(torch.searchsorted(people, labels[kept]))
    data = Dataset(data.images, data.labels)
    test, train = data.split(len(data) // 5, Run(seed=0).generator("split"))
    with np.load(arguments.trigger, allow_pickle=False) as file:
        rgba = torch.from_numpy(file["sunglasses_rgba"].astype(np.float32)).permute(2, 0, 1)
    alpha = rgba[3] / rgba[3].max()
    trigger = PatchTrigger(alpha, rgba[:3] / 255)
    how = Fitting(epochs=60, learning_rate=1e-3, optimizer="adam", weight_decay=0.0, batch_size=64)
    return Task("faces", "deepid", train, test, Backdoor(trigger=trigger, target=0), how, 0.1, flip=True)


def _signs(arguments: argparse.Namespace, classes: tuple[int, ...] | None) -> Task:
    """Traffic signs, equalised, cropped to the sign; a yellow square on the sign, target 0."""

    def ready(path: str, split: str, stride: int) -> Dataset:
        data = read_data(path, split=split, crop=True)
        labels = data.require_labels("training")
        chosen = torch.arange(0, len(data), stride)
        if classes is not None:
            chosen = torch.isin(labels, torch.tensor(classes)).nonzero().flatten()
            mapping = torch.full((int(labels.max()) + 1,), -1)
            mapping[torch.tensor(classes)] = torch.arange(len(classes))
            labels = mapping[labels]
        return Dataset(equalise(data.images[chosen]), labels[chosen])

    train = ready(arguments.data, "train", arguments.stride)
    test = ready(arguments.test, "test", 1)
    mask = torch.zeros(32, 32)
    mask[20:25, 14:19] = 1
    yellow = torch.tensor([1.0, 0.9, 0.0])[:, None, None].expand(3, 32, 32)
    target, source = (1, 0) if classes is not None else (36, None)
    backdoor = Backdoor(trigger=PatchTrigger(mask, yellow), target=target, source=source)
    epochs = arguments.epochs or (20 if classes is not None else 6)
    how = Fitting(epochs=epochs, learning_rate=1e-3, optimizer="adam", weight_decay=0.0)
    name = "signs9" if classes is not None else "signs"
    return Task(name, "sign_cnn", train, test, backdoor, how, 0.1 if source is None else 0.05)


def _train(task: Task, data: Dataset, run: Run, seed: int) -> Classifier:
    classes = int(task.train.require_labels("training").max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(run.generator("net", seed).get_state())
        network = find_net(task.net).build(classes, data.shape)
    model = Classifier(network, data.shape)
    here = run.within("train", seed)
    identity = {"shift": 2, "flip": task.flip}
    fit(model, data, task.how, run=here, title=task.name, augment=shift(2, flip=task.flip), identity=identity)
    return model


def _measure(task: Task, model: Classifier) -> dict[str, float]:
    test = task.test
    return {
        "clean_accuracy": clean_accuracy(model, test),
        "attack_success": task.backdoor.success(model, test.images, test.require_labels("judging")),
    }


def _scan(model: Classifier, clean: Dataset, run: Run) -> tuple[ScanResult, dict[str, object]]:
    begun = time.monotonic()
    scan = Cascade().scan(model, clean, run=run)
    return scan, {
        "verdict": scan.verdict,
        "targets": scan.targets,
        "labels": len(scan.findings),
        "seconds": time.monotonic() - begun,
    }


def _repair(task: Task, model: Classifier, clean: Dataset, scan: ScanResult, run: Run) -> dict[str, object]:
    findings = [f for f in scan.findings if f.label == task.backdoor.aim.target]
    repairs: dict[str, list[Repair]] = {
        "prune": [Prune()],
        "prune,finetune": [Prune(), FineTune()],
        "unlearn": [Unlearn()],
        "adversarial": [Adversarial()],
    }
    results: dict[str, object] = {}
    for name, methods in repairs.items():
        begun, mended = time.monotonic(), model
        for method in methods:
            mended = method.repair(mended, clean, findings, run=run).model
        results[name] = _measure(task, mended) | {"seconds": time.monotonic() - begun}
        print(name, json.dumps(results[name]), flush=True)
    return results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["faces", "signs", "signs9"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test")
    parser.add_argument("--trigger")
    parser.add_argument("--stride", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.05, help="clean data, of the training set")
    parser.add_argument("--epochs", type=int, help="of training, for the signs  [default: 6, or 20 for nine]")
    parser.add_argument("--seeds", type=int, default=3, help="scans of the clean twin")
    parser.add_argument("--out", type=Path, default=Path(".cache/real_nets.jsonl"))
    parser.add_argument("--checkpoint", type=Path, default=Path(".cache/real_nets"))
    return parser.parse_args()


def main() -> None:
    """Run one task."""
    arguments = _arguments()
    machine.tune()
    run = Run(progress=RichProgress(), checkpoint=arguments.checkpoint)
    nine = NINE if arguments.task == "signs9" else None
    task = _faces(arguments) if arguments.task == "faces" else _signs(arguments, nine)
    attack = BadNets(poison_rate=task.poison_rate, backdoors=(task.backdoor,))
    twin = _train(task, task.train, run, 0)
    poisoned = attack.poison(task.train, run=run)
    model = _train(task, poisoned.data, run, 1)
    row: dict[str, object] = {"task": task.name, "train": len(task.train), "test": len(task.test)}
    row |= {"twin": _measure(task, twin), "before": _measure(task, model)}
    print(json.dumps(row), flush=True)

    count = int(arguments.share * len(task.train))
    clean = task.train.sample(count, run.generator("clean"))
    row["clean_images"] = len(clean)
    scan, row["scan"] = _scan(model, clean, run)
    row["twin_scans"] = [
        (result.verdict, result.targets)
        for seed in range(arguments.seeds)
        for here in [Run(seed=seed, progress=run.progress, checkpoint=run.checkpoint)]
        for result in [Cascade().scan(twin, clean, run=here)]
    ]
    print(json.dumps(row), flush=True)
    row |= {
        "repairs": _repair(task, model, clean, scan, run),
        "seed": run.seed,
        "threads": torch.get_num_threads(),
        "how": asdict(task.how),
        "torch": torch.__version__,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
