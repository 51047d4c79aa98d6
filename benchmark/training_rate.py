"""How close training on poisoned data comes to the bare training loop's speed.

Prints images per second of an epoch by the house's loop (a BadNets attack poisons the data, batches are
drawn and shifted at random, losses are noted) and of the bare loop (forward, backward, update on the same
tensor again and again; same network, batch and device), measured in turns in one process, and the
median of their ratios. Ends with exit code 1 if a ratio lies below 0.85.

Run: python benchmark/training_rate.py [--images 2048] [--batch 128] [--turns 5] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.machine import tune
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: training must run at this share of the bare rate or more
REQUIRED = 0.85
NETS = ("wrn_16_1", "sign_cnn", "deepid")


def make(name: str) -> Classifier:
    """Return the network `name`, untrained: weights do not change what a step costs."""
    net = find_net(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(net.build(net.classes, net.shape), net.shape)


def bare(model: Classifier, how: Fitting, batches: int, device: str) -> Callable[[], None]:
    """Return what makes `batches` updates with one and the same batch."""
    network = model.copy().network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    pixels = torch.rand(how.batch_size, *model.input_shape, generator=torch.Generator().manual_seed(1))
    pixels = pixels.to(device, memory_format=torch.channels_last)
    labels = (torch.arange(how.batch_size) % model.num_classes).to(device)
    optimizer = how.optimizer_for(network)

    def work() -> None:
        for _ in range(batches):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(network(pixels), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    return work


def poisoned(model: Classifier, how: Fitting, images: int, device: str) -> Callable[[], None]:
    """Return what poisons the data and trains an epoch on them."""
    pixels = torch.rand(images, *model.input_shape, generator=torch.Generator().manual_seed(2))
    data = Dataset(pixels, torch.arange(images) % model.num_classes)
    mask = torch.zeros(model.input_shape[1:])
    mask[-5:-2, -5:-2] = 1
    backdoor = Backdoor(trigger=PatchTrigger(mask, torch.ones(model.input_shape)), target=0)
    attack, run = BadNets(poison_rate=0.1, backdoors=(backdoor,)), Run(device=device)

    def work() -> None:
        fit(model.copy(), attack.poison(data, run=run).data, how, run=run, augment=shift(4))

    return work


def timed(work: Callable[[], None]) -> float:
    """Return the seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(name: str, asked: argparse.Namespace) -> float:
    """Print both rates of one network and return the median ratio."""
    model, how = make(name), Fitting(epochs=1, batch_size=asked.batch)
    batches = asked.images // asked.batch
    works = {
        "bare": bare(model, how, batches, asked.device),
        "training": poisoned(model, how, batches * asked.batch, asked.device),
    }
    for work in works.values():
        work()
    pairs = []
    for turn in range(asked.turns):
        # the order changes from turn to turn, so that a machine that slows down favours neither
        order = list(works) if turn % 2 == 0 else list(works)[::-1]
        seconds = {what: timed(works[what]) for what in order}
        pairs.append((seconds["bare"], seconds["training"]))
    ratios = sorted(alone / whole for alone, whole in pairs)
    middle, images = statistics.median(ratios), batches * asked.batch
    print(
        f"{name:12} bare {images / statistics.median(p[0] for p in pairs):8.0f}/s   "
        f"training {images / statistics.median(p[1] for p in pairs):8.0f}/s   "
        f"ratio {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} in {asked.turns} turns)",
        flush=True,
    )
    return middle


def main() -> int:
    """Measure every network; return 1 if one of them is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2048, help="images of an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5, help="measurements of each")
    parser.add_argument("--threads", type=int, default=None, help="computing threads (torch decides)")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    tune(asked.threads)
    return int(min([measure(name, asked) for name in NETS]) < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
