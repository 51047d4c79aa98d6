"""How fast the cascade's search is beside the bare network and the machine, and where a scan's time goes.

For each network prints, as ratios of what was measured in turns in one process, the sample passes per
second of computing time (so that other work on the machine does not count) of the batched search
(patches, 16 jobs x 16 images) against forward and backward through the bare network at the same batch,
and against what the machine's matrix products would allow: multiply-adds of a pass over the rate of a
large product in single precision. Then scans each network once with the cascade and prints each
stage's share of the seconds.

Run: python benchmark/scan_rate.py [--jobs 16] [--images 16] [--turns 9] [--no-stages]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.machine import tune
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.search import engine
from detrojan.search.jobs import Job
from detrojan.search.plan import Plan
from detrojan.triggers.aim import Aim

#: rates are taken over at least this long
SECONDS = 0.5
NETS = ("deepid", "badnets_cnn", "wrn_16_1", "small_vgg")
#: rows of the square matrices whose product shows what the machine can do
SIDE = 1024


def make(name: str) -> Classifier:
    """Return the network `name`, untrained: weights do not change what a pass costs."""
    net = find_net(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(net.build(net.classes, net.shape), net.shape)


def multiply_adds(model: Classifier) -> int:
    """Return the multiply-adds of one sample's forward pass, by hooks at convolutions and linear layers."""
    network, counts = model.copy().network.eval(), list[int]()

    def convolution(layer: nn.Module, _given: object, out: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        height, width = layer.kernel_size
        counts.append(out[0].numel() * layer.in_channels // layer.groups * height * width)

    def linear(layer: nn.Module, _given: object, out: torch.Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        counts.append(out[0].numel() * layer.in_features)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, nn.Linear):
            layer.register_forward_hook(linear)
    with torch.no_grad():
        network(torch.zeros(1, *model.input_shape))
    return sum(counts)


def bare(model: Classifier, jobs: int, images: int) -> Callable[[], int]:
    """Return what runs one batch forward and backward, with the gradient for the input alone."""
    network = model.copy().network
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(requires_grad=False)
    pixels = torch.rand(jobs * images, *model.input_shape, generator=torch.Generator().manual_seed(1))
    pixels = pixels.to(memory_format=torch.channels_last).requires_grad_()
    targets = (torch.arange(jobs) % model.num_classes).repeat_interleave(images)

    def batch() -> int:
        torch.autograd.grad(functional.cross_entropy(network(pixels), targets), pixels)
        return len(pixels)

    return batch


def searching(model: Classifier, jobs: int, images: int, run: Run) -> Callable[[], int]:
    """Return what makes one step of the search's own loop, with all jobs."""
    pixels = torch.rand(500, *model.input_shape, generator=torch.Generator().manual_seed(2))
    truth = torch.arange(500) % model.num_classes
    wanted = [
        Job(Aim(target=number % model.num_classes), number // model.num_classes) for number in range(jobs)
    ]
    plan = Plan(steps=10**6, batch_size=images)
    work = engine._Search(model, pixels, truth, wanted, (), plan, {}, run, None)  # noqa: SLF001

    def step() -> int:
        before = work.passes
        with work.model.judging():
            work.turn()
        return work.passes - before

    return step


def product() -> Callable[[], int]:
    """Return what multiplies two matrices; it returns the multiply-adds."""
    left, right = (torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(n)) for n in (3, 4))
    out = torch.empty(SIDE, SIDE)

    def multiply() -> int:
        torch.mm(left, right, out=out)
        return SIDE**3

    return multiply


def rate(work: Callable[[], int]) -> float:
    """Return what `work` gets done per second."""
    done, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < SECONDS:
        done += work()
    return done / spent


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one turn has measured: passes per second, and multiply-adds per second of the product."""

    bare: float
    search: float
    product: float


def measure(name: str, jobs: int, images: int, turns: int, run: Run) -> None:
    """Print the rates of one network and the medians of their ratios."""
    model = make(name)
    works = {
        "bare": bare(model, jobs, images),
        "search": searching(model, jobs, images, run),
        "product": product(),
    }
    for work in works.values():
        rate(work)
    taken = []
    for turn in range(turns):
        # the order changes from turn to turn, so that a machine that slows down favours none
        order = list(works) if turn % 2 == 0 else list(works)[::-1]
        measured = {what: rate(works[what]) for what in order}
        taken.append(Rates(**measured))
    forward = multiply_adds(model)
    # backward by the input alone is one more product of the same size in every layer
    allowed = 2 * forward
    print(
        f"{name:12} {forward / 1e6:.2f} M multiply-adds forward; "
        f"bare {statistics.median(r.bare for r in taken):.0f}/s, "
        f"search {statistics.median(r.search for r in taken):.0f}/s, "
        f"product {2 * statistics.median(r.product for r in taken) / 1e9:.1f} GFLOP/s"
    )
    for what, ratios in (
        ("search : bare", [r.search / r.bare for r in taken]),
        ("search : matrix products", [r.search * allowed / r.product for r in taken]),
        ("bare : matrix products", [r.bare * allowed / r.product for r in taken]),
    ):
        print(
            f"    {what:26} {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {turns} turns)"
        )


def varied(model: Classifier, pixels: torch.Tensor) -> None:
    """Have an untrained network answer with many labels: its last layer is centred and scaled on `pixels`."""
    last = [layer for layer in model.network.modules() if isinstance(layer, nn.Linear)][-1]
    logits = model.all_logits(pixels)
    with torch.no_grad():
        spread = logits.std(0).clamp_min(1e-6)
        last.bias.sub_(logits.mean(0)).mul_(5 / spread)
        last.weight.mul_(5 / spread[:, None])


def stages(name: str) -> None:
    """Scan the network once and print each stage's share of the seconds."""
    model = make(name)
    coarse = torch.rand(600, model.input_shape[0], 5, 5, generator=torch.Generator().manual_seed(5))
    pixels = functional.interpolate(coarse, model.input_shape[1:], mode="bilinear")
    varied(model, pixels)
    begun = time.perf_counter()
    result = Cascade().scan(model, Dataset(pixels), run=Run())
    whole = time.perf_counter() - begun
    seconds: dict[str, float] = result.details.get("stage_seconds", {})
    print(f"{name:12} the cascade took {whole:.1f} s, {result.passes} passes ({result.reason})")
    for stage, spent in (seconds | {"the rest": whole - sum(seconds.values())}).items():
        print(f"    {stage:26} {spent / whole:.0%}")


def main() -> None:
    """Measure every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=16, help="jobs side by side")
    parser.add_argument("--images", type=int, default=16, help="images per job and step")
    parser.add_argument("--turns", type=int, default=9, help="measurements of each")
    parser.add_argument("--threads", type=int, default=None, help="computing threads (torch decides)")
    parser.add_argument("--float32", action="store_true", help="search in float32 on any machine")
    parser.add_argument("--no-stages", action="store_true", help="leave the scans out")
    asked = parser.parse_args()
    tune(asked.threads)
    for name in NETS:
        measure(name, asked.jobs, asked.images, asked.turns, Run(float32=asked.float32))
    if not asked.no_stages:
        for name in NETS:
            stages(name)


if __name__ == "__main__":
    main()
