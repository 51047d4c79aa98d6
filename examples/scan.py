"""Scans a backdoored traffic-sign classifier with Neural Cleanse and saves the trigger that it recovers.

Run: python examples/scan.py [suspect.safetensors] [--steps 40] [--out trigger.safetensors]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from attack import suspect

from detrojan import NeuralCleanse, Run, draw_signs, tune


def main() -> None:
    """Scan a network as a stranger would, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="what attack.py wrote; else one is trained")
    parser.add_argument("--steps", type=int, default=40, help="steps per label of the scan")
    parser.add_argument("--labels", type=int, default=18, help="labels to test")
    parser.add_argument("--out", type=Path, default=None, help="where to save the first recovered trigger")
    asked = parser.parse_args()
    tune()

    # The scan gets the network and some clean images of its own; no label, no trigger, no target.
    run = Run(seed=0)
    model, images = suspect(asked.model, run), draw_signs(400, seed=3).with_labels(None)
    scan = NeuralCleanse(steps=asked.steps, mini_batches=2, samples=400)
    result = scan.scan(model, images, run=run, labels=range(asked.labels))
    print(f"{result.verdict}: {result.reason}")
    for finding in result.findings:
        # what a scan does not know is None; Neural Cleanse knows all of these
        index, size, success = finding.anomaly_index or 0, finding.size or 0, finding.attack_success or 0
        print(
            f"label {finding.label:2}  index {index:5.2f}  size {size:6.1f} pixels  "
            f"success {success:6.1%}{'  <- target' if finding.flagged else ''}"
        )
    if asked.out is not None and result.flagged and result.flagged[0].trigger is not None:
        result.flagged[0].trigger.save(asked.out)
        print(f"the recovered trigger is in {asked.out}")


if __name__ == "__main__":
    main()
