"""Sets STRIP up on clean images of a backdoored traffic-sign classifier, and checks inputs with it.

Run: python examples/guard.py [suspect.safetensors] [--mode add] [--frr 0.01] [--out guard]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from attack import BACKDOOR, suspect

from detrojan import Run, Strip, detection, draw_signs, save_guard, tune


def main() -> None:
    """Set the guard up on clean images, and judge stamped ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="what attack.py wrote; else one is trained")
    parser.add_argument(
        "--mode", choices=["both", "add", "blend"], default="both", help="how images are mixed"
    )
    parser.add_argument("--frr", type=float, default=0.01, help="share of clean inputs that may be refused")
    parser.add_argument("--out", type=Path, default=None, help="where to save the guard")
    asked = parser.parse_args()
    tune()

    run = Run(seed=0)
    model = suspect(asked.model, run)
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
    stamped = BACKDOOR.trigger.stamp(test.images[BACKDOOR.aim.victims(truth)])
    clean_scores, bad_scores = guard.score(test.images), guard.score(stamped)
    measured = detection(clean_scores, bad_scores, guard.threshold)
    won = model.answers(stamped) == BACKDOOR.aim.target
    through = won & ~guard.suspicious(bad_scores)
    print(f"clean images refused {measured.frr:.1%}, stamped images let through {measured.far:.1%}")
    print(f"attack success {won.double().mean():.1%}", end=", ")
    print(f"with the guard {through.double().mean():.1%}")
    if asked.out is not None:
        print(f"the guard is in {save_guard(guard, asked.out)}")


if __name__ == "__main__":
    main()
