"""Repairs a backdoored traffic-sign classifier by unlearning what a scan recovers from it.

Run: python examples/repair.py [suspect.safetensors] [--method unlearn] [--out repaired.safetensors]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from attack import BACKDOOR, suspect

from detrojan import (
    FineTune,
    NeuralCleanse,
    Prune,
    Repair,
    Run,
    Unlearn,
    clean_accuracy,
    draw_signs,
    save_model,
    tune,
)

REPAIRS: dict[str, Repair] = {
    "unlearn": Unlearn(epochs=10, updates=150, learning_rate=1e-3),
    "prune": Prune(layer="3"),
    "finetune": FineTune(),
}


def main() -> None:
    """Scan a network, repair it with what was found, and judge the repair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="what attack.py wrote; else one is trained")
    parser.add_argument("--method", choices=sorted(REPAIRS), default="unlearn", help="the repair")
    parser.add_argument("--steps", type=int, default=30, help="steps per label of the scan")
    parser.add_argument("--labels", type=int, default=18, help="labels to test")
    parser.add_argument("--out", type=Path, default=None, help="where to save the repaired network")
    asked = parser.parse_args()
    tune()

    # The defender has the network and some clean images, and learns the rest from the scan.
    run = Run(seed=0)
    model, clean = suspect(asked.model, run), draw_signs(800, seed=3)
    scan = NeuralCleanse(steps=asked.steps, mini_batches=2, samples=400)
    result = scan.scan(model, clean, run=run, labels=range(asked.labels))
    print(f"{result.verdict}: {result.reason}")
    if not result.flagged:
        return
    repaired = REPAIRS[asked.method].repair(model, clean, result.flagged, run=run)
    for step in repaired.steps:
        print(f"{step.method}: {step.summary}")

    # Only here does the attacker's own trigger come in: it judges the repair on images of its own.
    test = draw_signs(600, seed=2)
    truth = test.require_labels("judging")
    for name, network in (("before", model), ("after", repaired.model)):
        accuracy, success = clean_accuracy(network, test), BACKDOOR.success(network, test.images, truth)
        print(f"{name:6} clean accuracy {accuracy:6.1%}  attack success {success:6.1%}")
    if asked.out is not None:
        print(f"the repaired network is in {save_model(repaired.model, asked.out)}")


if __name__ == "__main__":
    main()
