"""What each guard lets through, and what all of them together do: networks of the attacks' plan.

Takes the networks of benchmark/plans/attacks.toml, trained here or found in the cache of `detrojan bench
run`. Sets every part of the guard `auto` up on the plan's clean images, once, and scores clean and stamped
images that nobody has seen. Prints for each part and for the whole: the AUROC, the FRR, and the FAR at
the guard's own boundary and at an FRR of exactly 1% and 5% of the judging images.

Nothing is filtered: images that are answered wrongly, and stamped ones that the attack fails on, count.

Run: python benchmark/guards_rate.py --data cifar10=PATH --attacks none,wanet,issba [--mixed-precision]
         [--seed 0] [--cache .cache/bench] [--any-code] [--inputs 2000] [--out FILE.jsonl]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from detrojan.benchmark.cache import Cache
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.parts import Cell
from detrojan.benchmark.plan import load_plan
from detrojan.benchmark.provenance import surroundings
from detrojan.guards.auto import Auto, CalibratedAuto, fused
from detrojan.guards.tail import Tail
from detrojan.machine import tune
from detrojan.metrics.detection import auroc, detection

PLAN = Path(__file__).resolve().parent / "plans" / "attacks.toml"
FRR = 0.01


def main() -> None:
    """Print a line for each network and guard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="as for bench run")
    parser.add_argument("--attacks", required=True, help="names with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"), help="where networks are kept")
    parser.add_argument("--any-code", action="store_true", help="take networks of other versions too")
    parser.add_argument("--mixed-precision", action="store_true", help="as the networks were trained")
    parser.add_argument("--inputs", type=int, default=2000, help="clean and stamped inputs at most")
    parser.add_argument("--out", type=Path, help="add the figures to this file, as JSON lines")
    asked = parser.parse_args()
    tune()
    plan = load_plan(PLAN, "cpu")
    workshop = Workshop(
        plan=plan,
        paths=dict(part.split("=", 1) for part in asked.data),
        cache=Cache(folder=asked.cache, any_code=asked.any_code),
        mixed_precision=asked.mixed_precision or None,
    )
    cells = {cell.attack: cell.model_copy(update={"seed": asked.seed}) for cell in plan.cells()}
    for attack in asked.attacks.split(","):
        for row in measured(workshop, cells[attack], asked.inputs):
            print(" ".join(f"{key} {value}" for key, value in row.items() if key != "provenance"), flush=True)
            if asked.out:
                with asked.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def measured(workshop: Workshop, cell: Cell, inputs: int) -> list[dict[str, Any]]:
    """Return the figures of each part and of the whole, on one network."""
    subject, material, run = workshop.subject(cell), workshop.material(cell), workshop.run(cell.seed)
    judge = Judge.of(subject, material)
    order = torch.randperm(len(material.test), generator=run.generator("guard", "clean"))[:inputs]
    begun = time.monotonic()
    guard = Auto(frr=FRR).calibrate(subject.model, material.clean, run=run)
    assert isinstance(guard, CalibratedAuto)
    setting = time.monotonic() - begun
    clean = guard.each(material.test.images[order])
    stamped = None
    if subject.backdoors:
        stamped = guard.each(judge.stamped(inputs, run.generator("guard", "stamped"))[0])
    names = [part.method.name for part in guard.parts]
    limits = [
        float(how(torch.tensor([Tail.of(how.scores).reached_by(FRR)], dtype=torch.float64))[0])
        for how in guard.surprises
    ]
    rows = []
    for place, name in enumerate([*names, "auto"]):
        whole = name == "auto"
        usual = fused(clean, guard.weights) if whole else clean[:, place]
        row = {"seed": cell.seed, "attack": cell.attack, "guard": name, "clean": len(usual)}
        limit = guard.threshold if whole else limits[place]
        row["frr"] = round(float((usual >= limit).double().mean()), 5)
        if stamped is not None:
            bad = fused(stamped, guard.weights) if whole else stamped[:, place]
            told = detection(usual, bad, limit)
            row |= {"stamped": told.bad, "auroc": round(auroc(usual, bad), 5), "far": round(told.far, 5)}
            for rate in (0.01, 0.05):
                passed = (bad <= usual.quantile(1 - rate)).double().mean()
                row[f"far_at_{rate}"] = round(float(passed), 5)
        row["calibration_seconds"] = round(setting, 1)
        rows.append({**row, "provenance": surroundings("cpu")})
    return rows


if __name__ == "__main__":
    main()
