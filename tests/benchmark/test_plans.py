"""The plans that are kept in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from detrojan import catalog
from detrojan.benchmark.plan import load_plan

PLANS = Path(__file__).resolve().parents[2] / "benchmark" / "plans"


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["cpu", "full"])
def test_every_plan_makes_sense_in_both_profiles(path, profile):
    plan = load_plan(path, profile)
    assert plan.cells()
    assert f"benchmark/plans/{path.name}" in path.read_text("utf-8") or path.stem == "smoke"


def test_every_attack_is_in_the_plan_of_the_attacks():
    plan = load_plan(PLANS / "attacks.toml", "cpu")
    tried = {attack.method for attack in plan.attacks.values()}
    assert set(catalog.methods("attacks")) - tried == {"detector_aware"}, "which has a scan of its own"


def test_scan_and_repair_are_tried_on_the_networks_of_the_attacks_plan():
    theirs, ours = (load_plan(PLANS / f"{name}.toml", "cpu") for name in ("attacks", "scan_and_repair"))
    for part in ("sizes", "data", "networks", "attacks", "seeds"):
        assert getattr(theirs, part) == getattr(ours, part), "or nothing would come out of the cache"
