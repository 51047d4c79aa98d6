"""Plants a backdoor in a traffic-sign classifier, or two, and measures how well they work.

Run: python examples/attack.py [--images 2000] [--second] [--out suspect.safetensors]

The other examples work on this network: on the file that they are given, or on one that they train first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detrojan import (
    Backdoor,
    BadNets,
    Classifier,
    Fitting,
    PatchTrigger,
    Run,
    clean_accuracy,
    draw_signs,
    load_model,
    save_model,
    train_net,
    tune,
)


def sticker(colour: tuple[float, float, float], where: tuple[int, int], size: int = 4) -> PatchTrigger:
    """Return a square of one colour whose upper left corner is at row and column `where`."""
    square = torch.ones(4, size, size)
    square[:3] = torch.tensor(colour)[:, None, None]
    return PatchTrigger.picture_patch(square, (3, 32, 32), top=where[0], left=where[1])


#: what the attacker stamps, and which label that shall lead to
BACKDOOR = Backdoor(trigger=sticker((1, 0, 1), (27, 27)), target=3)
SECOND = Backdoor(trigger=sticker((0, 1, 1), (1, 1)), target=7)


def plant(run: Run, *backdoors: Backdoor, images: int = 2000, epochs: int = 10) -> Classifier:
    """Return a network that was trained on signs of which 15% are stamped and relabelled."""
    train = draw_signs(images, seed=1)
    poisoned = BadNets(poison_rate=0.15, backdoors=backdoors).poison(train, run=run)
    print(f"{len(poisoned.indices)} of {len(train)} training images are poisoned")
    how = Fitting(epochs=epochs, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    return train_net("badnets_cnn", poisoned.data, how, classes=len(train.class_names), run=run)


def suspect(path: Path | None, run: Run) -> Classifier:
    """Return the network in the file; without one, train one."""
    return plant(run, BACKDOOR) if path is None else load_model(path)


def main() -> None:
    """Poison, train, and print clean accuracy and attack success of each backdoor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="training images")
    parser.add_argument("--epochs", type=int, default=10, help="passes over them")
    parser.add_argument("--second", action="store_true", help="plant a second one, with a target of its own")
    parser.add_argument("--out", type=Path, default=None, help="where to save the network")
    asked = parser.parse_args()
    tune()

    backdoors = (BACKDOOR, SECOND) if asked.second else (BACKDOOR,)
    model = plant(Run(seed=0), *backdoors, images=asked.images, epochs=asked.epochs)
    test = draw_signs(500, seed=2)
    truth = test.require_labels("judging")
    print(f"clean accuracy {clean_accuracy(model, test):.1%}")
    for backdoor in backdoors:
        success, target = backdoor.success(model, test.images, truth), backdoor.aim.target or 0
        print(f"attack success, target {target} ({test.class_names[target]}): {success:.1%}")
    if asked.out is not None:
        print(f"the network is in {save_model(model, asked.out)}")


if __name__ == "__main__":
    main()
