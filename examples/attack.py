"""Plants two backdoors in a traffic-sign classifier and measures how well they work.

Run: python examples/attack.py [--images 2000] [--epochs 6]
"""

from __future__ import annotations

import argparse

import torch

from detrojan import (
    Backdoor,
    BadNets,
    Fitting,
    PatchTrigger,
    Run,
    clean_accuracy,
    draw_signs,
    train_net,
    tune,
)


def sticker(colour: tuple[float, float, float], where: tuple[int, int], size: int = 6) -> PatchTrigger:
    """Return a square of one colour whose upper left corner is at row and column `where`."""
    square = torch.ones(4, size, size)
    square[:3] = torch.tensor(colour)[:, None, None]
    return PatchTrigger.picture_patch(square, (3, 32, 32), top=where[0], left=where[1])


def main() -> None:
    """Poison, train, and print clean accuracy and attack success of each backdoor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="training images")
    parser.add_argument("--epochs", type=int, default=6, help="passes over them")
    asked = parser.parse_args()
    tune()

    run = Run(seed=0)
    train, test = draw_signs(asked.images, seed=1), draw_signs(500, seed=2)
    attack = BadNets(
        poison_rate=0.15,
        backdoors=(
            Backdoor(trigger=sticker((1, 0, 1), (25, 25)), target=3),
            Backdoor(trigger=sticker((0, 1, 1), (1, 1)), target=7),
        ),
    )
    poisoned = attack.poison(train, run=run)
    print(f"{len(poisoned.indices)} of {len(train)} training images are poisoned")

    how = Fitting(epochs=asked.epochs, batch_size=32, optimizer="adam", learning_rate=3e-3, weight_decay=0)
    model = train_net("mnist_cnn_max", poisoned.data, how, classes=len(train.class_names), run=run)
    assert test.labels is not None
    print(f"clean accuracy {clean_accuracy(model, test):.1%}")
    for backdoor in attack.backdoors:
        success, target = backdoor.success(model, test.images, test.labels), backdoor.aim.target or 0
        print(f"attack success, target {target} ({test.class_names[target]}): {success:.1%}")


if __name__ == "__main__":
    main()
