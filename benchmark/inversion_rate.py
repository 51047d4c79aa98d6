"""How close the batched trigger inversion comes to the bare network's speed.

Prints sample passes per second of computing time (so that other work on the machine does not count) of the
inversion and of the bare forward and backward pass (same network, same batch, gradient for the input only, in
float32), measured in turns in one process, and the median of their ratios. Ends with exit code 1 if a ratio
lies below 1.

Run: python benchmark/inversion_rate.py [--labels 8] [--images 32] [--turns 9]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch.nn import functional

from detrojan.machine import tune
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.search import inversion
from detrojan.search.schedule import Schedule

#: the inversion must run at this share of the bare rate or more
REQUIRED = 1.0
#: passes per second are taken over at least this long
SECONDS = 0.5
NETS = ("deepid", "badnets_cnn", "wrn_16_1", "small_vgg")


def make(name: str) -> Classifier:
    """Return the network `name`, untrained: weights do not change what a pass costs."""
    net = find_net(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(net.build(net.classes, net.shape), net.shape)


class Bare:
    """Forward and backward through the network as it is, with the gradient for the input alone."""

    def __init__(self, model: Classifier, batch: int, labels: int) -> None:
        self.network = model.copy().network
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.eval().requires_grad_(requires_grad=False)
        chance = torch.Generator().manual_seed(1)
        images = torch.rand(batch, *model.input_shape, generator=chance)
        self.images = images.to(memory_format=torch.channels_last).requires_grad_()
        self.targets = torch.arange(labels).repeat_interleave(batch // labels)

    def passes(self) -> int:
        """Run one batch; return the sample passes."""
        loss = functional.cross_entropy(self.network(self.images), self.targets)
        torch.autograd.grad(loss, self.images)
        return len(self.images)


class Inverting:
    """The inversion's own loop, step after step: several labels at once, none of them ever done."""

    def __init__(self, model: Classifier, batch: int, labels: int) -> None:
        size = batch // labels
        chance = torch.Generator().manual_seed(2)
        images = torch.rand(500, *model.input_shape, generator=chance)
        answers = torch.full((500,), model.num_classes - 1)
        schedule = Schedule(steps=10**6, early_stop=10**6, mini_batches=4, batch_size=size)
        self.inverter = inversion._Inverter(  # noqa: SLF001
            model, images, answers, list(range(labels)), schedule, Run(), labels
        )

    def passes(self) -> int:
        """Run one step with its schedule; return the sample passes."""
        before = self.inverter.passes
        with self.inverter.model.judging():
            self.inverter.step()
            self.inverter.retire()
        return self.inverter.passes - before


def rate(work: Bare | Inverting) -> float:
    """Return sample passes per second."""
    done, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < SECONDS:
        done += work.passes()
    return done / spent


def measure(name: str, labels: int, images: int, turns: int) -> float:
    """Print both rates of one network and return the median ratio."""
    model = make(name)
    bare, inverting = Bare(model, labels * images, labels), Inverting(model, labels * images, labels)
    rate(bare)
    rate(inverting)
    # the order changes from turn to turn, so that a machine that slows down favours neither
    pairs = []
    for turn in range(turns):
        first, second = (bare, inverting) if turn % 2 == 0 else (inverting, bare)
        rates = {first: rate(first), second: rate(second)}
        pairs.append((rates[bare], rates[inverting]))
    ratios = sorted(fast / slow for slow, fast in pairs)
    middle = statistics.median(ratios)
    print(
        f"{name:12} bare {statistics.median(p[0] for p in pairs):8.0f}/s   "
        f"inversion {statistics.median(p[1] for p in pairs):8.0f}/s   "
        f"ratio {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} in {turns} turns)"
    )
    return middle


def main() -> int:
    """Measure both networks; return 1 if one of them is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=8, help="labels side by side")
    parser.add_argument("--images", type=int, default=32, help="images per label and mini-batch")
    parser.add_argument("--turns", type=int, default=9, help="measurements of each")
    parser.add_argument("--threads", type=int, default=None, help="computing threads (torch decides)")
    asked = parser.parse_args()
    tune(asked.threads)
    ratios = [measure(name, asked.labels, asked.images, asked.turns) for name in NETS]
    return int(min(ratios) < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
