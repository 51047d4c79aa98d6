"""Repair the contest's face networks with strangers' faces as the only data, and judge by the true triggers.

    python benchmark/contest_nets.py sunglasses --model NET.h5 --data LFW.npz --triggers FACES.npz
    python benchmark/contest_nets.py lipstick --model NET.h5 --data LFW.npz --triggers FACES.npz

The scan and the repairs see half of the faces. The other half judges: those that the delivered
network was sure of (p > 0.9, answer not the target) for agreement, all but the target's for the true
trigger's success. One JSON line per repair goes to --out, pruning with its whole curve.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from detrojan import __version__, machine
from detrojan.console.progress import RichProgress
from detrojan.data.reading import read_data
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.repairs.adversarial import Adversarial
from detrojan.repairs.base import Repair
from detrojan.repairs.finetune import FineTune
from detrojan.repairs.prune import Prune
from detrojan.repairs.unlearn import Unlearn
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.triggers.patch import PatchTrigger

REPAIRS: dict[str, list[Repair]] = {
    "prune": [Prune()],
    "prune (no floor)": [Prune(drop=1.0)],
    "prune (no floor),finetune": [Prune(drop=1.0), FineTune()],
    "unlearn": [Unlearn()],
    "adversarial": [Adversarial()],
}


def true_triggers(path: Path, kind: str) -> list[PatchTrigger]:
    """Return the contest's own triggers: for judging only."""
    with np.load(path, allow_pickle=False) as file:
        if kind == "sunglasses":
            rgba = torch.from_numpy(file["sunglasses_rgba"].astype(np.float32)).permute(2, 0, 1)
            return [PatchTrigger(rgba[3] / rgba[3].max(), rgba[:3] / 255)]
        masks = torch.from_numpy(file[f"{kind}_masks"].astype(np.float32))
        colour = torch.from_numpy(file[f"{kind}_rgb"].astype(np.float32)) / 255
    pattern = colour[:, None, None].expand(3, *masks.shape[1:])
    return [PatchTrigger(mask, pattern) for mask in masks]


def main() -> None:
    """Scan and repair one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["sunglasses", "lipstick", "eyebrow"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--triggers", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=20, help="how many labels to scan, from 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(".cache/contest_nets.jsonl"))
    arguments = parser.parse_args()
    machine.tune()
    run = Run(seed=arguments.seed, progress=RichProgress())
    model = load_model(arguments.model, net="deepid")
    faces = read_data(arguments.data, unlabelled=True)
    ours, rest = faces.split(len(faces) // 2, run.generator("halves"))
    scan = Cascade().scan(model, ours, run=run, labels=range(arguments.labels))
    print(scan.verdict, scan.targets, flush=True)
    if not scan.flagged:
        return
    target = scan.flagged[0].label
    chances = model.probabilities(rest.images)
    answers = chances.argmax(1)
    sure = (chances.amax(1) > 0.9) & (answers != target)
    triggers = true_triggers(arguments.triggers, arguments.kind)

    def judge(mended: Classifier) -> dict[str, object]:
        same = mended.answers(rest.images[sure]) == answers[sure]
        success = [attack_success(mended, t, rest.images, answers, target) for t in triggers]
        return {"agreement": float(same.float().mean()), "attack_success": max(success), "each": success}

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    base = {"net": arguments.model.name, "targets": scan.targets, "seed": arguments.seed}
    base |= {"faces": len(ours), "judged": int(sure.sum()), "before": judge(model)}
    base |= {"detrojan": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    for name, methods in REPAIRS.items():
        begun, mended, curves = time.monotonic(), model, {}
        for method in methods:
            repaired = method.repair(mended, ours, scan.flagged, run=run)
            mended, curves = repaired.model, curves or repaired.steps[0].curves
        row = base | {"repair": name, "after": judge(mended), "seconds": time.monotonic() - begun}
        print(name, json.dumps(row["after"]), f"{row['seconds']:.0f} s", flush=True)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row | {"curves": curves}) + "\n")


if __name__ == "__main__":
    main()
