"""What each guard lets through: networks of the attacks' plan.

Takes the networks of benchmark/plans/attacks.toml, trained here or found in the cache of `detrojan bench
run`. Sets the guards up on the plan's clean images, and scores clean and stamped images that nobody has seen.
The parts of the guard `auto` are set up once, and measured alone and together. Writes for each guard: the
AUROC, the FRR, and the FAR at its own boundary and at an FRR of exactly 1% and 5% of the judging images.

Nothing is filtered: images that are answered wrongly, and stamped ones that the attack fails on, count.

Run: python benchmark/guards_rate.py --data cifar10=PATH --attacks none,wanet,issba [--guards auto,strip]
         [--mixed-precision] [--seed 0] [--cache .cache/bench] [--any-code] [--inputs 600] [--out FILE.jsonl]
     python benchmark/guards_rate.py --table benchmark/results/guards.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detrojan.benchmark.cache import Cache
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.parts import Cell
from detrojan.benchmark.plan import load_plan
from detrojan.benchmark.provenance import surroundings
from detrojan.catalog import find
from detrojan.guards.auto import CalibratedAuto, fused
from detrojan.guards.base import Guard
from detrojan.guards.sequential_strip import CalibratedSequentialStrip
from detrojan.guards.tail import Tail
from detrojan.machine import tune
from detrojan.metrics.detection import auroc, detection

PLAN = Path(__file__).resolve().parent / "plans" / "attacks.toml"
FRR = 0.01
#: forwards for each input; those of sequential STRIP are counted
FORWARDS = {"consistency": 17, "mahalanobis": 1, "ted": 1, "badexpert": 3, "ibd_psc": 6, "strip": 100}

Row = dict[str, Any]


def main() -> None:
    """Write a line for each network and guard, or print the tables of such lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="as for bench run")
    parser.add_argument("--attacks", help="names with commas between them")
    parser.add_argument("--guards", default="auto", help="names with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"), help="where networks are kept")
    parser.add_argument("--any-code", action="store_true", help="take networks of other versions too")
    parser.add_argument("--mixed-precision", action="store_true", help="as the networks were trained")
    parser.add_argument("--inputs", type=int, default=600, help="clean and stamped inputs at most")
    parser.add_argument("--out", type=Path, help="add the figures to this file, as JSON lines")
    parser.add_argument("--table", type=Path, help="print the tables of this file instead")
    asked = parser.parse_args()
    if asked.table:
        print(tables(read(asked.table)))
        return
    tune()
    plan = load_plan(PLAN, "cpu")
    workshop = Workshop(
        plan=plan,
        paths=dict(part.split("=", 1) for part in asked.data),
        cache=Cache(folder=asked.cache, any_code=asked.any_code),
        mixed_precision=asked.mixed_precision or None,
    )
    cells = {cell.attack: cell.model_copy(update={"seed": asked.seed}) for cell in plan.cells()}
    done = {(row["seed"], row["attack"], row["guard"]) for row in read(asked.out)}
    for attack in asked.attacks.split(","):
        for name in asked.guards.split(","):
            if (asked.seed, attack, name) in done:
                continue
            for row in measured(workshop, cells[attack], name, asked.inputs):
                said = " ".join(f"{key} {value}" for key, value in row.items() if key != "provenance")
                print(said, flush=True)
                if asked.out:
                    with asked.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")


def read(file: Path | None) -> list[Row]:
    """Return the lines of a file; none where it is not there."""
    if file is None or not file.exists():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]


def measured(workshop: Workshop, cell: Cell, name: str, inputs: int) -> list[Row]:
    """Return the figures of a guard on one network; those of the parts of `auto` as well."""
    subject, material, run = workshop.subject(cell), workshop.material(cell), workshop.run(cell.seed)
    order = torch.randperm(len(material.test), generator=run.generator("guard", "clean"))[:inputs]
    images = [material.test.images[order]]
    if subject.backdoors:
        judge = Judge.of(subject, material)
        images.append(judge.stamped(inputs, run.generator("guard", "stamped"))[0])
    begun = time.monotonic()
    kind = find("guards", name)
    assert issubclass(kind, Guard)
    guard = kind(frr=FRR).calibrate(subject.model, material.clean, run=run)  # type: ignore[call-arg]
    about = {"seed": cell.seed, "attack": cell.attack}
    setting = round(time.monotonic() - begun, 1)
    if isinstance(guard, CalibratedAuto):
        found = _of_parts(guard, images)
    else:
        forwards = guard.plan.copies if isinstance(guard, CalibratedSequentialStrip) else FORWARDS[name]
        found = [figures(name, forwards, [guard.score(one) for one in images], guard.threshold)]
    more = {"clean_images": len(material.clean), "seconds_to_set_up": setting}
    return [{**about, **row, **more, "provenance": surroundings("cpu")} for row in found]


def _of_parts(guard: CalibratedAuto, images: list[torch.Tensor]) -> list[Row]:
    each = [guard.each(one) for one in images]
    rows = []
    for place, (part, how) in enumerate(zip(guard.parts, guard.surprises, strict=True)):
        limit = float(how(torch.tensor([Tail.of(how.scores).reached_by(FRR)], dtype=torch.float64))[0])
        name = part.method.name
        rows.append(figures(name, FORWARDS[name], [one[:, place] for one in each], limit))
    forwards = sum(FORWARDS[part.method.name] for part in guard.parts)
    return [*rows, figures(guard.method.name, forwards, [fused(one) for one in each], guard.threshold)]


def figures(name: str, forwards: float, scores: list[torch.Tensor], limit: float) -> Row:
    """Return the figures of a guard: of clean scores alone, or of clean and stamped ones."""
    usual = scores[0]
    row: Row = {"guard": name, "forwards": round(forwards, 1), "clean": len(usual)}
    row["frr"] = round(float((usual >= limit).double().mean()), 5)
    if len(scores) > 1:
        bad = scores[1]
        told = detection(usual, bad, limit)
        row |= {"stamped": told.bad, "auroc": round(auroc(usual, bad), 5), "far": round(told.far, 5)}
        for rate in (0.01, 0.05):
            passed = (bad <= usual.quantile(1 - rate)).double().mean()
            row[f"far_at_{rate}"] = round(float(passed), 5)
    return row


def tables(rows: Sequence[Row]) -> str:
    """Return the AUROC of all guards, and what `auto` and STRIP do at their boundaries, as Markdown."""
    guards = [
        one for one in (*FORWARDS, "sequential_strip", "auto") if any(row["guard"] == one for row in rows)
    ]
    cells = {(row["seed"], row["attack"], row["guard"]): row for row in rows}
    networks = sorted({(row["seed"], row["attack"]) for row in rows}, key=lambda one: (one[1] == "none", one))
    lines = [_line(["attack", "seed", *(f"`{name}`" for name in guards)]), "|" + "---|" * (len(guards) + 2)]
    for seed, attack in networks:
        found = [cells.get((seed, attack, name), {}).get("auroc") for name in guards]
        if any(value is not None for value in found):
            lines.append(
                _line([attack, seed, *(f"{value:.3f}" if value is not None else "" for value in found)])
            )
    costs = {row["guard"]: row["forwards"] for row in rows}
    lines.append(_line(["forwards for each input", "", *(f"{costs[name]:g}" for name in guards)]))
    heads = ["guard", "attack", "seed", "FRR", "FAR", "FAR at FRR 1%", "FAR at FRR 5%"]
    lines += ["", _line(heads), "|" + "---|" * len(heads)]
    for name in ("auto", "strip", "sequential_strip", "ibd_psc"):
        for seed, attack in networks:
            row = cells.get((seed, attack, name))
            if row is not None:
                values = [row.get(key) for key in ("frr", "far", "far_at_0.01", "far_at_0.05")]
                shown = [f"{100 * value:.1f}" if value is not None else "\u2013" for value in values]
                lines.append(
                    _line([f"`{name}`", "(clean network)" if attack == "none" else attack, seed, *shown])
                )
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
