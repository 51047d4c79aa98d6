"""Sets STRIP up on clean images of a backdoored traffic-sign classifier, and checks inputs with it.

Run: python examples/guard.py [--mode add] [--frr 0.01] [--out guard]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from detrojan import (
    Aim,
    Backdoor,
    BadNets,
    Fitting,
    PatchTrigger,
    Run,
    Strip,
    attack_success,
    detection,
    draw_signs,
    save_guard,
    train_net,
    tune,
)


def main() -> None:
    """Train a network on poisoned data, calibrate the guard on clean images, and judge stamped ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mode", choices=["both", "add", "blend"], default="both", help="how images are mixed"
    )
    parser.add_argument("--frr", type=float, default=0.01, help="share of clean inputs that may be refused")
    parser.add_argument("--out", type=Path, default=None, help="where to save the guard")
    asked = parser.parse_args()
    tune()

    run = Run(seed=0)
    magenta = torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None].expand(4, 6, 6)
    trigger = PatchTrigger.picture_patch(magenta, (3, 32, 32), top=25, left=25)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=3),))
    train = attack.poison(draw_signs(2000, seed=1), run=run).data
    how = Fitting(epochs=10, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
    model = train_net("badnets_cnn", train, how, classes=len(train.class_names), run=run)

    # The guard gets the network and some clean images; it learns what usual answers look like.
    guard = Strip(mode=asked.mode, frr=asked.frr, copies=50).calibrate(
        model, draw_signs(600, seed=3), run=run
    )
    print(f"called backdoored: an entropy of {guard.threshold * guard.sign:.3f} or less")
    for warning in guard.warnings:
        print(f"warning: {warning}")

    # Only here does the attacker's trigger come in: it makes the inputs that the guard shall notice.
    test = draw_signs(400, seed=2)
    truth = test.require_labels("judging")
    stamped = trigger.stamp(test.images[Aim(target=3).victims(truth)])
    clean_scores, bad_scores = guard.score(test.images), guard.score(stamped)
    measured = detection(clean_scores, bad_scores, guard.threshold)
    won = model.answers(stamped) == 3
    through = won & ~guard.suspicious(bad_scores)
    print(f"clean images refused {measured.frr:.1%}, stamped images let through {measured.far:.1%}")
    print(f"attack success {attack_success(model, trigger, test.images, truth, 3):.1%}", end=", ")
    print(f"with the guard {through.double().mean():.1%}")
    if asked.out is not None:
        print(f"the guard is in {save_guard(guard, asked.out)}")


if __name__ == "__main__":
    main()
