"""Which stamped inputs get past STRIP: those in which the trigger changes next to nothing.

Takes a network of benchmark/plans/strip.toml, trained here or found in the cache of `detrojan bench run`,
sets the guard as the table does, and sorts its stamped inputs by how much the trigger changes the pixels
it covers: on white ground a white square changes nothing. Prints how many inputs fall into each class, how
many of them pass, and how many both pass and do what the attacker wants.

Run: python benchmark/strip_ground.py --data gtsrb=TRAIN --data gtsrb.test=TEST [--mixed-precision]
         [--cell gtsrb/wrn_16_1/badnets_inner] [--cache .cache/bench] [--any-code] [--inputs 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise
from pathlib import Path

import torch

from detrojan.benchmark.cache import Cache
from detrojan.benchmark.judging import Judge
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.plan import load_plan
from detrojan.guards.strip import Strip
from detrojan.machine import tune

PLAN = Path(__file__).resolve().parent / "plans" / "strip.toml"
#: mean change of a covered pixel, of the range 0 to 1
EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, math.inf)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="as for bench run")
    parser.add_argument("--cell", default="gtsrb/wrn_16_1/badnets_inner", help="data/network/attack")
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"), help="where networks are kept")
    parser.add_argument("--any-code", action="store_true", help="take networks of other versions too")
    parser.add_argument("--mixed-precision", action="store_true", help="as the table's rows were made")
    parser.add_argument("--inputs", type=int, default=2000, help="stamped inputs at most")
    parser.add_argument("--seed", type=int, default=0, help="of the table's row")
    asked = parser.parse_args()
    tune()

    plan = load_plan(PLAN, "cpu")
    workshop = Workshop(
        plan=plan,
        paths=dict(part.split("=", 1) for part in asked.data),
        cache=Cache(folder=asked.cache, any_code=asked.any_code),
        mixed_precision=asked.mixed_precision or None,
    )
    names = dict(zip(("data", "network", "attack"), asked.cell.split("/"), strict=True))
    found = [cell for cell in plan.cells() if {**cell.model_dump(), **names} == cell.model_dump()]
    if not found:
        raise SystemExit(f"expected data/network/attack of {PLAN.name}, got {asked.cell}")
    cell = found[0].model_copy(update={"seed": asked.seed, "defence": "none"})
    material, subject, run = workshop.material(cell), workshop.subject(cell), workshop.run(asked.seed)

    guard = Strip(frr=0.01).calibrate(subject.model, material.clean, run=run)
    judge, (backdoor,) = Judge.of(subject, material), subject.backdoors
    # the images that the table's stamped inputs were made of
    places = backdoor.aim.moved(judge.truth)
    chance = run.generator("guard", "stamped")
    images = material.test.images[places[torch.randperm(len(places), generator=chance)[: asked.inputs]]]
    stamped = backdoor.trigger.stamp(images)
    assert torch.equal(stamped, judge.stamped(asked.inputs, run.generator("guard", "stamped"))[0])

    passed = ~guard.suspicious(guard.score(stamped))
    obeyed = passed & (subject.model.answers(stamped) == backdoor.aim.target)
    covered = (backdoor.trigger.stamp(torch.zeros_like(images[:1])) > 0)[0].any(0)
    change = (stamped - images).abs().mean(1)[:, covered].mean(1)

    def line(name: str, rows: torch.Tensor) -> str:
        shares = [rows.double().mean(), *(hits[rows].double().mean() for hits in (passed, obeyed))]
        return f"{name:14}" + "".join(f"{100 * float(share):12.2f}" for share in shares)

    print(f"{asked.cell}, seed {asked.seed}: {len(stamped)} stamped inputs, in percent")
    print(f"{'changed by':14}{'share':>12}{'pass':>12}{'and obeyed':>12}")
    for low, high in pairwise(EDGES):
        print(line(f"{low:.1f} to {high:.1f}", (change >= low) & (change < high)))
    for low in EDGES[:-1]:
        print(line(f"{low:.1f} or more", change >= low))


if __name__ == "__main__":
    main()
