"""Trains on poisoned traffic signs, plainly and by anti-backdoor learning, and compares the two networks.

Run: python examples/train.py [--images 1500] [--epochs 15] [--out model.safetensors]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detrojan import (
    ABL,
    Backdoor,
    BadNets,
    PatchTrigger,
    Plain,
    Run,
    attack_success,
    clean_accuracy,
    draw_signs,
    save_model,
    start_net,
    tune,
)


def main() -> None:
    """Poison the data, train both networks on them, and judge these on images of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1500, help="training images")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the data once isolation is done")
    parser.add_argument("--out", type=Path, default=None, help="where to save the network without backdoor")
    asked = parser.parse_args()
    tune()

    run = Run(seed=0)
    clean, test = draw_signs(asked.images, seed=1), draw_signs(500, seed=2)
    magenta = torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None].expand(4, 6, 6)
    trigger = PatchTrigger.picture_patch(magenta, (3, 32, 32), top=25, left=25)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=3),))
    poisoned = attack.poison(clean, run=run)

    # The trainers get the data as they are: nobody tells them which samples are poisoned, or how.
    start = start_net("badnets_cnn", clean.shape, classes=len(clean.class_names), run=run)
    usual = {"learning_rate": 0.02, "batch_size": 32, "shift_pixels": 1}
    trainers = {
        "plain": Plain(epochs=asked.epochs, **usual),
        "abl": ABL(isolation_epochs=8, epochs=asked.epochs, isolation_rate=0.02, **usual),
    }
    bad = set(poisoned.indices.tolist())
    for name, trainer in trainers.items():
        trained = trainer.train(start, poisoned.data, run=run)
        accuracy = clean_accuracy(trained.model, test)
        success = attack_success(trained.model, trigger, test.images, test.require_labels("judging"), 3)
        print(f"{name:5} clean accuracy {accuracy:6.1%}  attack success {success:6.1%}")
        if len(trained.isolated):
            right = sum(position in bad for position in trained.isolated.tolist())
            print(f"{len(trained.isolated)} samples were isolated, {right} of them poisoned")
    if asked.out is not None:
        print(f"the network is in {save_model(trained.model, asked.out)}")


if __name__ == "__main__":
    main()
