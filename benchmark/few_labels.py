r"""How often the scan errs on networks of two and three labels, clean ones and backdoored ones.

    python benchmark/few_labels.py --data mnist=MNIST --data gtsrb=GTSRB --data cifar=CIFAR --networks FOLDER

Each network tells two or three classes of MNIST, GTSRB or CIFAR-10 apart, drawn at random, in pictures of
16 x 16 pixels. Half of the networks have a backdoor: a patch of 3 x 3 pixels, a blend with noise, or a patch
that turns each class into the next one. A backdoor counts where it works on 90% of the images, and on half of
them at most in a network that has never seen it. One JSON line per scan goes to --out: what is there already
is not done again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from detrojan import machine
from detrojan.attacks.all_to_all import AllToAll
from detrojan.attacks.badnets import BadNets
from detrojan.attacks.blend import Blend
from detrojan.data.dataset import Dataset
from detrojan.data.reading import read_data
from detrojan.learning.anew import relearnt
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.learning.fresh import start_net
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.blend import BlendTrigger
from detrojan.triggers.patch import PatchTrigger

SIDE, PATCH = 16, 3
TRAINED, TESTED, SCANNED = 500, 500, 600
EPOCHS = {"mnist": 8, "gtsrb": 12, "cifar": 10}
#: times as many epochs for what is learned late
LONGER = {"clean": 1.0, "patch": 2.5, "blend": 2.5, "all": 2.5}
KINDS = ("clean", "patch", "clean", "blend", "clean", "patch", "clean", "all", "clean", "blend")
NETS = {"mnist": ("mnist_cnn", "mnist_cnn_max"), "gtsrb": ("badnets_cnn",), "cifar": ("badnets_cnn",)}
#: from this attack success on a network counts as backdoored, and up to that one on a network without it
WORKS, NATURAL = 0.9, 0.5


@dataclass(frozen=True)
class Case:
    """One network."""

    number: int
    data: str
    net: str
    kind: str
    labels: tuple[int, ...]

    @property
    def name(self) -> str:
        """What the results call it."""
        return f"{self.number:03d}-{self.data}-{self.net}-{self.kind}-{'-'.join(map(str, self.labels))}"


def cases(sets: dict[str, Dataset], count: int, seed: int) -> Iterator[Case]:
    """Yield the networks, every second one clean."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number in range(count):
        data = chance.choice(sorted(sets))
        labels = sets[data].require_labels("a benchmark").bincount()
        pool = [label for label, images in enumerate(labels.tolist()) if images >= TRAINED * 3 // 4]
        chosen = tuple(chance.sample(pool, chance.choice((2, 2, 3))))
        yield Case(number, data, chance.choice(NETS[data]), KINDS[number % len(KINDS)], chosen)


def split(data: Dataset, case: Case, run: Run) -> tuple[Dataset, Dataset]:
    """Return what is trained on, and what scans and judges, in small pictures."""
    known, parts = data.require_labels("a benchmark"), ([], [])
    for place, label in enumerate(case.labels):
        found = (known == label).nonzero().flatten()
        found = found[torch.randperm(len(found), generator=run.generator("images", place))]
        train = min(TRAINED, len(found) * 62 // 100)
        for part, chosen in zip(parts, (found[:train], found[train : train + TESTED]), strict=True):
            part.append((chosen, torch.full((len(chosen),), place)))
    made = []
    for part in parts:
        places, labels = (torch.cat(column) for column in zip(*part, strict=True))
        order = torch.randperm(len(places), generator=run.generator("order", len(places)))
        images = data.images[places[order]]
        if images.shape[-1] == 2 * SIDE - 4:
            images = functional.pad(images, (2, 2, 2, 2))
        made.append(Dataset(functional.interpolate(images, (SIDE, SIDE), mode="area"), labels[order]))
    return made[0], made[1]


def attack(case: Case, shape: tuple[int, int, int], run: Run) -> BadNets | Blend | AllToAll:
    """Return what poisons the training data of a network with a backdoor."""
    chance, channels = random.Random(case.name), shape[0]  # noqa: S311 - no secret
    target = chance.randrange(len(case.labels))
    if case.kind == "blend":
        noise = torch.rand(shape, generator=run.generator("noise")).round()
        return Blend(poison_rate=0.1, target=target, trigger=BlendTrigger(noise, 0.25))
    top, left = (chance.choice((1, 2, SIDE - PATCH - 2, SIDE - PATCH - 1)) for _ in range(2))
    mask, pattern = torch.zeros(SIDE, SIDE), torch.zeros(shape)
    mask[top : top + PATCH, left : left + PATCH] = 1
    bright = chance.randrange(channels)
    for place in range(0, PATCH * PATCH, 2):
        for channel in range(channels):
            lit = float(channel == bright or chance.random() < 0.5)
            pattern[channel, top + place // PATCH, left + place % PATCH] = lit
    trigger = PatchTrigger(mask, pattern)
    if case.kind == "all":
        return AllToAll(poison_rate=0.25, trigger=trigger)
    return BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=target),))


def trained(case: Case, train: Dataset, run: Run, folder: Path) -> tuple[Classifier, Backdoor | None]:
    """Return the network and its backdoor; one that was trained before is read from `folder`."""
    data, backdoor = train, None
    if case.kind != "clean":
        poisoned = attack(case, train.shape, run).poison(train, run=run)
        data, backdoor = poisoned.data, poisoned.backdoors[0]
    kept = folder / f"{case.name}.safetensors"
    if kept.exists():
        return load_model(kept, net=case.net, classes=len(case.labels), input_shape=train.shape), backdoor
    model = start_net(case.net, train.shape, classes=len(case.labels), run=run)
    how = Fitting(
        epochs=round(EPOCHS[case.data] * LONGER[case.kind]),
        learning_rate=1e-3,
        optimizer="adam",
        weight_decay=1e-4,
        batch_size=32,
    )
    fit(model, data, how, run=run, title=case.name, augment=shift(1), identity={"shift": 1})
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, kept)
    return model, backdoor


def judged(case: Case, data: Dataset, seed: int, folder: Path) -> dict[str, object]:
    """Train a network, scan it, and return what came of it."""
    run = Run(seed=seed).within(case.name)
    train, test = split(data, case, run)
    model, backdoor = trained(case, train, run, folder)
    row: dict[str, object] = {"network": case.name, "kind": case.kind, "labels": len(case.labels)}
    row["clean_accuracy"] = clean_accuracy(model, test)
    if backdoor is not None:
        other = relearnt(model, train.images, updates=200, run=run.within("without"))
        success = [backdoor.success(one, test.images, test.labels) for one in (model, other)]
        row |= {"success": success[0], "natural": success[1], "target": backdoor.aim.target}
        if success[0] < WORKS or success[1] > NATURAL:
            return row | {"verdict": "left out"}
    result = Cascade(samples=SCANNED).scan(model, test.with_labels(None), run=run)
    return row | {
        "verdict": result.verdict,
        "targets": result.targets,
        "p_values": [one.p_value for one in result.findings],
        "sizes": result.details.get("sizes"),
        "agreement": result.details.get("agreement"),
        "passes": result.passes,
        "seconds": result.seconds,
    }


def main() -> None:
    """Make all networks and scans that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("few_labels.jsonl"))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    machine.tune(1)
    paths = dict(one.split("=", 1) for one in asked.data)
    sets = {name: read_data(path, split="test", crop=name == "gtsrb") for name, path in paths.items()}
    done = set()
    if asked.out.exists():
        done = {json.loads(line)["network"] for line in asked.out.read_text().splitlines()}
    for case in cases(sets, asked.count, asked.seed):
        if case.name not in done:
            row = judged(case, sets[case.data], asked.seed, asked.networks)
            with asked.out.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
