from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from detrojan.cli.scan import command as scan
from detrojan.console.state import State
from detrojan.jobs.fleet.commands import scan_command
from detrojan.jobs.fleet.feeding import Feeding
from detrojan.jobs.fleet.policy import ScanPart

ROWS = [
    {},
    {"data": "signs:test", "net": "deepid", "classes": 9, "input-shape": "3x20x18", "samples": 50},
    {"mean": "0.1,0.2", "std": "0.30000000000000004,1", "input-range": "0-255", "bgr": "yes", "key": "ema"},
    {"input-range": "auto", "preprocess": "imagenet", "layout": "NHWC", "class_names": "names.txt"},
    {"data": "d.npz", "data-range": "-1-1", "resize": "8x9", "channels": "grey", "crop": 1, "unlabelled": 1},
    {"output": "0", "split": "val", "bgr": False, "crop": "no"},
]


@pytest.mark.parametrize("row", ROWS)
def test_the_command_asks_for_what_the_row_states(row, tmp_path):
    feeding = Feeding.read(row, tmp_path, "row 1")
    part = ScanPart(method="cascade", set=["samples=60", "patch_steps=9"], budget=7.5, seed=4)
    words = scan_command(Path("m.pt"), feeding, part, tmp_path / "scan.json")
    assert words[:2] == ("detrojan", "scan")
    asked = scan.make_context("scan", list(words[2:]), obj=State()).params
    for source in (feeding.model_source(Path("m.pt")), feeding.data_source()):
        stated = {one.name: getattr(source, one.name) for one in fields(source) if one.name in asked}
        assert stated == {name: asked[name] for name in stated}
    assert (asked["method"], asked["settings"]) == ("cascade", ("samples=60", "patch_steps=9"))
    assert (asked["budget"], asked["seed"]) == (7.5, 4)
