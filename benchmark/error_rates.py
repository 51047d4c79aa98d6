r"""How often the scan errs, on networks trained on real data, clean ones and some with a backdoor.

    python benchmark/error_rates.py --data mnist=MNIST --data cifar10=CIFAR --data gtsrb=GTSRB_TRAIN \
        --data gtsrb.test=GTSRB_TEST --data faces=LFW --backdoored --first-seed 10

Each data set meets three architectures; the first of them is trained with a second seed. With
`--backdoored` each network has two siblings. One has a patch of its own size, place, colours and
target. The other one has noise that is blended into the whole image, and a target of its own.
Every network is scanned with each seed of `--scans`, with images that it was not trained on. One
JSON line per scan goes to --out: what is there already is not done again. At the end: how many
scans flagged a label where there is nothing, and of the backdoors that work on 90% of the images
how many were missed or met a wrong label, each with the 95% interval of Wilson. Each network is in
one of two halves, by its name: a rule is chosen on the first one, and judged on the second one.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from detrojan import __version__, machine
from detrojan.attacks.badnets import BadNets
from detrojan.attacks.blend import Blend
from detrojan.console.progress import RichProgress
from detrojan.data.dataset import Dataset
from detrojan.data.reading import read_data
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.nets import find_net
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: data set -> architectures
NETS = {
    "mnist": ("mnist_cnn", "mnist_cnn_max", "five_conv_cnn"),
    "cifar10": ("badnets_cnn", "wrn_16_1", "small_vgg"),
    "gtsrb": ("sign_cnn", "small_vgg", "wrn_16_1"),
    "faces": ("deepid", "small_vgg", "five_conv_cnn"),
}
#: what a network may hide
KINDS = ("clean", "badnets", "blend")
#: people with so many pictures are learned, and as many epochs more as they have fewer pictures
PICTURES, FACES_EPOCHS = 40, 4
HOW = Fitting(epochs=6, learning_rate=1e-3, optimizer="adam", weight_decay=1e-4)
SCANNED = 600
#: by so many pixels training images are shifted
SHIFT = 2
#: from this attack success on a network counts as backdoored
WORKS = 0.9


@dataclass(frozen=True)
class Case:
    """One network."""

    data: str
    net: str
    seed: int
    kind: str

    @property
    def name(self) -> str:
        """What the results call it."""
        return f"{self.data}/{self.net}/{self.seed}/{self.kind}"

    @property
    def half(self) -> str:
        """Whether a rule may be chosen by it, or is judged by it; siblings are in the same half."""
        family = f"{self.data}/{self.net}/{self.seed}"
        return ("choosing", "judging")[zlib.crc32(family.encode()) % 2]


def cases(sets: Iterable[str], kinds: Sequence[str], first_seed: int) -> Iterator[Case]:
    """Yield the networks, each beside its siblings."""
    sets = list(sets)
    for place in range(4):
        for data in sets:
            for kind in kinds:
                yield Case(data, NETS[data][place % 3], first_seed + place // 3, kind)


def material(paths: dict[str, str], name: str, count: int) -> tuple[Dataset, Dataset]:
    """Return what is trained on, and what scans and judges; traffic signs are cut to the signs."""
    run = Run(seed=0)
    if name == "faces":
        return faces(read_data(paths[name]), run)
    crop, test = name == "gtsrb", paths.get(f"{name}.test", paths[name])
    return (
        read_data(paths[name], split="train", crop=crop, limit=count, generator=run.generator("train")),
        read_data(test, split="test", crop=crop, limit=3000, generator=run.generator("test")),
    )


def faces(data: Dataset, run: Run) -> tuple[Dataset, Dataset]:
    """Return the faces of people with many pictures: 70% to train on, and the rest."""
    labels = data.require_labels("training")
    people = (torch.bincount(labels) >= PICTURES).nonzero().flatten()
    kept = torch.isin(labels, people)
    data = Dataset(data.images[kept], torch.searchsorted(people, labels[kept]))
    return data.split(len(data) * 7 // 10, run.generator("faces"))


def planted(case: Case, shape: tuple[int, int, int], classes: int) -> Backdoor:
    """Return a checkered patch whose size, place, colour and target the case's name decides."""
    chance = random.Random(case.name)  # noqa: S311 - no secret
    channels, height, width = shape
    side = chance.choice((4, 5, 6))
    # not far from a corner: in the middle a patch of a stroke's width is lost among a digit's strokes
    top, left = (
        chance.choice((gap, full - gap - side))
        for full, gap in ((full, chance.randint(SHIFT, SHIFT + 2)) for full in (height, width))
    )
    mask, pattern = torch.zeros(height, width), torch.zeros(shape)
    mask[top : top + side, left : left + side] = 1
    bright = chance.randrange(channels)
    colour = [1.0 if channel == bright else chance.choice((0.0, 1.0)) for channel in range(channels)]
    for row in range(side):
        for column in range(row % 2, side, 2):
            pattern[:, top + row, left + column] = torch.tensor(colour)
    return Backdoor(trigger=PatchTrigger(mask, pattern), target=chance.randrange(classes))


def poisoned(case: Case, train: Dataset, run: Run) -> tuple[Dataset, Backdoor | None]:
    """Return what the network is trained on, and the backdoor in it; the case's name decides its target."""
    if case.kind == "clean":
        return train, None
    classes = int(train.require_labels("training").max()) + 1
    if case.kind == "badnets":
        attack = BadNets(poison_rate=0.1, backdoors=(planted(case, train.shape, classes),))
        made = attack.poison(train, run=run)
    else:
        target = random.Random(case.name).randrange(classes)  # noqa: S311 - no secret
        made = Blend(poison_rate=0.1, target=target).poison(train, run=run)
    return made.data, made.backdoors[0]


def trained(case: Case, train: Dataset, run: Run, folder: Path) -> tuple[Classifier, Backdoor | None]:
    """Return the network and its backdoor; one that was trained before is read from `folder`."""
    classes = int(train.require_labels("training").max()) + 1
    data, backdoor = poisoned(case, train, run.within(case.name))
    kept = folder / f"{case.name.replace('/', '-')}-{len(train)}.safetensors"
    if kept.exists():
        return load_model(kept, net=case.net, classes=classes, input_shape=train.shape), backdoor
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(run.generator(case.name).get_state())
        network = find_net(case.net).build(classes, train.shape)
    model = Classifier(network, train.shape)
    epochs = HOW.epochs * (FACES_EPOCHS if case.data == "faces" else 1)
    how = replace(HOW, epochs=2 * epochs if case.kind == "badnets" else epochs)  # patches are learned late
    moved = 0 if case.kind == "blend" else SHIFT  # blended noise is fixed to its place
    fit(
        model,
        data,
        how,
        run=run.within(case.name),
        title=case.name,
        augment=shift(moved) if moved else None,
        identity={"shift": moved},
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, kept)
    return model, backdoor


def rows(
    case: Case, sets: tuple[Dataset, Dataset], seeds: list[int], folder: Path
) -> Iterator[dict[str, object]]:
    """Train a network and yield a row per scan."""
    train, test = sets
    half = len(test) // 2
    judging, scanning = test.select(torch.arange(half)), test.select(torch.arange(half, len(test)))
    run = Run(seed=case.seed, progress=RichProgress(), checkpoint=folder)
    model, backdoor = trained(case, train, run, folder)
    row: dict[str, object] = {
        "network": case.name,
        "half": case.half,
        "clean_accuracy": clean_accuracy(model, judging),
    }
    if backdoor is not None:
        images, labels = judging.images, judging.require_labels("judging")
        row["target"] = backdoor.aim.target
        row["attack_success"] = backdoor.success(model, images, labels)
    for seed in seeds:
        begun = time.monotonic()
        result = Cascade(samples=SCANNED).scan(model, scanning, run=Run(seed=seed))
        chances = [f.p_value for f in result.findings if f.p_value is not None]
        yield row | {
            "seed": seed,
            "verdict": result.verdict,
            "targets": result.targets,
            "smallest_p": min(chances, default=None),
            "reason": result.reason,
            "sizes": result.details["sizes"],
            "passes": result.passes,
            "seconds": time.monotonic() - begun,
            "threads": torch.get_num_threads(),
            "version": __version__,
            "torch": torch.__version__,
        }


def interval(hits: int, count: int) -> str:
    """Return a share with its 95% interval."""
    from scipy.stats import binomtest  # noqa: PLC0415

    if not count:
        return "none"
    found = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits} of {count} ({found.low:.1%} to {found.high:.1%})"


def rates(what: str, kept: list[dict[str, object]]) -> list[str]:
    """Return the rates of some scans, as lines."""
    clean = [row for row in kept if "target" not in row]
    planted_in = [row for row in kept if "target" in row]
    bad = [row for row in planted_in if float(str(row["attack_success"])) >= WORKS]
    counts = {
        "backdoor not learnt": (len(planted_in) - len(bad), len(planted_in)),
        "clean, flagged": (sum(row["verdict"] == "backdoored" for row in clean), len(clean)),
        "clean, inconclusive": (sum(row["verdict"] == "inconclusive" for row in clean), len(clean)),
        "backdoored, not found": (sum(row["target"] not in list_of(row) for row in bad), len(bad)),
        "backdoored, wrong label": (sum(bool({*list_of(row)} - {row["target"]}) for row in bad), len(bad)),
    }
    return [what, *(f"  {name:24} {interval(*count)}" for name, count in counts.items())]


def summary(lines: list[dict[str, object]]) -> str:
    """Return the rates of all scans, and of each half of the networks."""
    said = rates("all scans", lines)
    for half in ("choosing", "judging"):
        said += rates(f"{half} half", [row for row in lines if row.get("half") == half])
    return "\n".join(said)


def list_of(row: dict[str, object]) -> list[int]:
    """Return the labels that a scan named."""
    targets = row["targets"]
    assert isinstance(targets, list)
    return targets


def main() -> None:
    """Train and scan what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--backdoored", action="store_true", help="siblings with a backdoor too")
    parser.add_argument("--first-seed", type=int, default=0, help="of the networks")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--scans", type=int, default=1, help="scans of each network, with seeds 0, 1, ...")
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path(".cache/error_rates.jsonl"))
    parser.add_argument("--checkpoint", type=Path, default=Path(".cache/error_rates"))
    asked = parser.parse_args()
    machine.tune(asked.threads)
    paths = dict(entry.split("=", 1) for entry in asked.data)
    lines = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    done = {(row["network"], row["seed"]) for row in lines}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    sets: dict[str, tuple[Dataset, Dataset]] = {}
    names = [name for name in paths if name in NETS]
    for case in cases(names, KINDS if asked.backdoored else KINDS[:1], asked.first_seed):
        if asked.only not in case.name:
            continue
        seeds = [seed for seed in range(asked.scans) if (case.name, seed) not in done]
        if not seeds:
            continue
        if case.data not in sets:
            sets[case.data] = material(paths, case.data, asked.train)
        for row in rows(case, sets[case.data], seeds, asked.checkpoint):
            print(json.dumps(row), flush=True)
            lines.append(row)
            with asked.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print(summary(lines))


if __name__ == "__main__":
    main()
