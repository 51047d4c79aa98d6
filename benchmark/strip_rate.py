"""STRIP beside that of ART, the Adversarial Robustness Toolbox: same network, inputs and copies.

Trains a network on data with a BadNets patch, sets both guards for the same rate of false rejections on
the same clean images, and times both on the same clean and stamped inputs, in turns in one process. Prints
inputs per second, the median ratio, and what both reject of clean inputs (FRR) and let pass of stamped
ones (FAR). ART mixes in equal parts; ours does so too ("blend"), and beside it as the paper has it ("add")
and as it does by default ("both").
"sequential" is the sequential form of ours. A table follows: inputs per second of each of our guards that
needs answers alone, and forward passes per input.
Ends with exit code 1 if ours is slower, or the sequential form less than 5 times as fast as ART's, or if
ours is further from the set rate, or lets more pass.

Needs the toolbox: pip install adversarial-robustness-toolbox

Run: python benchmark/strip_rate.py [--data FILE] [--copies 100] [--frr 0.01] [--inputs 200] [--turns 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from detrojan.attacks.badnets import BadNets
from detrojan.catalog import methods
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import signs
from detrojan.data.reading import read_data
from detrojan.guards.base import Guard
from detrojan.guards.sequential_strip import SequentialStrip
from detrojan.guards.strip import Strip
from detrojan.learning.fitting import Fitting
from detrojan.learning.fresh import train_net
from detrojan.machine import tune
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

TARGET = 0
#: given images (N, C, H, W) in [0, 1], says which are rejected, (N,) bool
Judge = Callable[[torch.Tensor], torch.Tensor]


def victim(data: Dataset, trigger: PatchTrigger) -> Classifier:
    """Return a network with a backdoor."""
    attack = BadNets(poison_rate=0.1, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    how = Fitting(epochs=8, batch_size=64, optimizer="adam", learning_rate=1e-3, weight_decay=0.0)
    poisoned = attack.poison(data, run=Run(seed=1)).data
    classes = 1 + int(data.require_labels("training").max())
    net = "mnist_cnn_max"
    return train_net(net, poisoned, how, classes=classes, run=Run(seed=1))


def art(model: Classifier, clean: Dataset, copies: int, frr: float) -> Judge:
    """Return ART's guard of `model`, set on `clean`.

    Raises:
        SystemExit: the toolbox is not installed.

    """
    try:
        from art.defences.transformer.poisoning import STRIP  # noqa: PLC0415
        from art.estimators.classification import PyTorchClassifier  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(f"{error}; pip install adversarial-robustness-toolbox") from error

    # probabilities, as its entropy needs them
    network = nn.Sequential(model.copy().network, nn.Softmax(1)).eval()
    wrapped = PyTorchClassifier(
        network, nn.CrossEntropyLoss(), model.input_shape, model.num_classes, device_type="cpu"
    )
    guard = STRIP(wrapped)(num_samples=copies, false_acceptance_rate=frr)
    np.random.seed(0)  # noqa: NPY002 - the generator that it draws from
    guard.mitigate(clean.images.numpy())

    def judge(images: torch.Tensor) -> torch.Tensor:
        # an input that it rejects is answered with zeros for all classes
        return torch.from_numpy(guard.predict(images.numpy()) == 0).all(1)

    return judge


def ours(guard: Guard, model: Classifier, clean: Dataset) -> Judge:
    """Return our guard of `model`, set on `clean`."""
    made = guard.calibrate(model, clean, run=Run())
    for warning in made.warnings:
        print(f"{guard.name}: {warning}")
    return made.refuses


def counted(judge: Judge, model: Classifier, images: torch.Tensor) -> float:
    """Return how many images the network is asked about for each one that is judged."""
    seen = []
    hook = model.network.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
    judge(images)
    hook.remove()
    return sum(seen) / len(images)


def timed(judge: Judge, images: torch.Tensor) -> float:
    """Return the seconds that judging `images` takes."""
    begun = time.perf_counter()
    judge(images)
    return time.perf_counter() - begun


def rejections(
    judges: dict[str, Judge], honest: torch.Tensor, stamped: torch.Tensor
) -> dict[str, tuple[float, float]]:
    """Print and return what each judge rejects of clean images and lets pass of stamped ones, 0 to 1."""
    rates = {}
    for name, judge in judges.items():
        rejected, passed = float(judge(honest).double().mean()), 1 - float(judge(stamped).double().mean())
        rates[name] = (rejected, passed)
        print(f"{name:12} FRR {rejected:7.2%}  FAR {passed:7.2%}  of {len(honest)} and {len(stamped)} inputs")
    return rates


def speeds(judges: dict[str, Judge], images: torch.Tensor, turns: int) -> tuple[float, float]:
    """Print how fast each judge is; return the lowest of our medians over ART's speed, and the last one."""
    seconds: dict[str, list[float]] = {name: [] for name in judges}
    for turn in range(turns):
        # the order changes from turn to turn, so that a machine that slows down favours neither
        for name in list(judges) if turn % 2 == 0 else list(judges)[::-1]:
            seconds[name].append(timed(judges[name], images))
    middles = {}
    for name, found in seconds.items():
        ratios = sorted(theirs / own for theirs, own in zip(seconds["ART"], found, strict=True))
        middles[name] = statistics.median(ratios)
        print(
            f"{name:12} {len(images) / statistics.median(found):8.1f} inputs/s, "
            f"{middles[name]:5.2f} times ART's "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {turns} turns)"
        )
    return min(value for name, value in middles.items() if name != "ART"), middles["sequential"]


def table_of_guards(
    model: Classifier, clean: Dataset, frr: float, honest: torch.Tensor, stamped: torch.Tensor
) -> None:
    """Print what judging takes with each of our guards that needs answers alone."""
    print("\n| guard | inputs/s | forwards per clean input | per stamped input |\n|---|---|---|---|")
    for name, method in methods("guards").items():
        if not method.answers_only:
            continue
        guard = method(frr=frr)
        assert isinstance(guard, Guard)
        judge = ours(guard, model, clean)
        fast = statistics.median(len(honest) / timed(judge, honest) for _ in range(3))
        counts = [counted(judge, model, images) for images in (honest, stamped)]
        print(f"| {name} | {fast:.0f} | {counts[0]:.1f} | {counts[1]:.1f} |")


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a file of images with the splits train and test (drawn signs)")
    parser.add_argument("--copies", type=int, default=100, help="clean images that an input is mixed with")
    parser.add_argument("--frr", type=float, default=0.01, help="rate of false rejections that is set")
    parser.add_argument("--inputs", type=int, default=200, help="timed in a turn, half of them stamped")
    parser.add_argument(
        "--judging", type=int, default=1000, help="clean, and as many stamped, inputs that judge"
    )
    parser.add_argument("--clean", type=int, default=500, help="clean images that both are set on")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each")
    parser.add_argument("--threads", type=int, default=None, help="computing threads (torch decides)")
    return parser.parse_args()


def main() -> int:
    """Compare both; return 1 if ours is not the better one."""
    asked = arguments()
    tune(asked.threads)
    train, test = (
        read_data(asked.data, split=name) if asked.data else signs(name) for name in ("train", "test")
    )
    train = train.sample(6000, torch.Generator().manual_seed(0)) if len(train) > 6000 else train
    clean, rest = test.split(asked.clean, torch.Generator().manual_seed(1))
    trigger = PatchTrigger.corner(train.shape, size=5)
    model = victim(train, trigger)
    success = attack_success(model, trigger, rest.images, rest.require_labels("judging"), TARGET)
    print(f"clean accuracy {clean_accuracy(model, rest):.1%}, attack success {success:.1%}")

    how = {"copies": asked.copies, "frr": asked.frr}
    judges = {
        "ART": art(model, clean, asked.copies, asked.frr),
        "ours, blend": ours(Strip(**how, mode="blend"), model, clean),
        "ours, add": ours(Strip(**how, mode="add"), model, clean),
        "ours, both": ours(Strip(**how), model, clean),
        "sequential": ours(SequentialStrip(**how), model, clean),
    }
    honest = rest.images[: asked.judging]
    others = rest.images[rest.require_labels("stamping") != TARGET]
    stamped = trigger.stamp(others[: asked.judging])
    rates = rejections(judges, honest, stamped)
    half = asked.inputs // 2
    images = torch.cat([honest[:half], stamped[:half]])
    slowest, sequential = speeds(judges, images, asked.turns)
    table_of_guards(model, clean, asked.frr, honest, stamped)
    worse = any(
        rates[name][1] > rates["ART"][1] or abs(rates[name][0] - asked.frr) > abs(rates["ART"][0] - asked.frr)
        for name in judges
        if name != "ART"
    )
    return int(slowest < 1 or sequential < 5 or worse)


if __name__ == "__main__":
    sys.exit(main())
