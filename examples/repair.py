"""Repairs a backdoored traffic-sign classifier by unlearning what a scan recovers from it.

Run: python examples/repair.py [--method unlearn] [--out repaired.safetensors]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detrojan import (
    Backdoor,
    BadNets,
    FineTune,
    Fitting,
    NeuralCleanse,
    PatchTrigger,
    Prune,
    Repair,
    Run,
    Unlearn,
    attack_success,
    clean_accuracy,
    draw_signs,
    save_model,
    train_net,
    tune,
)

REPAIRS: dict[str, Repair] = {
    "unlearn": Unlearn(epochs=10, updates=150, learning_rate=1e-3),
    "prune": Prune(layer="3"),
    "finetune": FineTune(),
}


def main() -> None:
    """Train a network on poisoned data, scan it, repair it with the finding, and judge the repair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=sorted(REPAIRS), default="unlearn", help="the repair")
    parser.add_argument("--steps", type=int, default=30, help="steps per label of the scan")
    parser.add_argument("--out", type=Path, default=None, help="where to save the repaired network")
    asked = parser.parse_args()
    tune()

    run = Run(seed=0)
    train, test = draw_signs(2000, seed=1), draw_signs(600, seed=2)
    magenta = torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None].expand(4, 4, 4)
    trigger = PatchTrigger.picture_patch(magenta, (3, 32, 32), top=27, left=27)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=3),))
    how = Fitting(epochs=10, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    poisoned = attack.poison(train, run=run).data
    model = train_net("badnets_cnn", poisoned, how, classes=len(train.class_names), run=run)

    # The defender has the network and some clean images, and learns the rest from the scan.
    clean = draw_signs(800, seed=3)
    scan = NeuralCleanse(steps=asked.steps, mini_batches=2, samples=400)
    result = scan.scan(model, clean, run=run, labels=range(6))
    print(f"{result.verdict}: {result.reason}")
    if not result.flagged:
        return
    repaired = REPAIRS[asked.method].repair(model, clean, result.flagged, run=run)
    for step in repaired.steps:
        print(f"{step.method}: {step.summary}")

    # Only here does the attacker's own trigger come in: it judges the repair on images of its own.
    for name, network in (("before", model), ("after", repaired.model)):
        accuracy = clean_accuracy(network, test)
        success = attack_success(network, trigger, test.images, test.require_labels("judging"), 3)
        print(f"{name:6} clean accuracy {accuracy:6.1%}  attack success {success:6.1%}")
    if asked.out is not None:
        print(f"the repaired network is in {save_model(repaired.model, asked.out)}")


if __name__ == "__main__":
    main()
