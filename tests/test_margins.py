"""Other seeds are others everywhere, margins are written down as they are, and the table is right."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import margins
from detrojan.run import Run
from margins import CHECKOUT, _figures

TEST = """
import pytest
from detrojan.run import Run
from margins import shifted

@pytest.fixture
def twins():
    worth = 0.9
    assert worth > 0.8
    return worth

def test_figures(twins):
    for number in (1, 2):
        assert 0.1 * number + 0.1 < twins - 0.2, "said"
    assert shifted(7) == {seed}
    assert 0.5 == pytest.approx(0.45, abs=0.1)
    assert "a" < "b"
    assert twins >= 0.95

def test_of_no_network():
    assert 1 < 2
"""


@pytest.fixture(scope="module")
def steadiness():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("steadiness", CHECKOUT / "scripts" / "steadiness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["steadiness"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["steadiness"]


def test_comparisons_of_marked_tests_are_written_down_and_the_table_says_which_are_near(steadiness, tmp_path):
    records = []
    for seed, shift in ((7, 0), (3007, 3)):
        (tmp_path / "test_it.py").write_text(TEST.replace("{seed}", str(seed)))
        records.append(tmp_path / f"it-{shift}.jsonl")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "conftest", "-m", "effect", f"--rootdir={CHECKOUT}",
             "-o", "enable_assertion_pass_hook=true", f"-c{CHECKOUT / 'pyproject.toml'}",
             f"--seed-shift={shift}", f"--margins={records[-1]}",
             tmp_path / "test_it.py"],
            cwd=CHECKOUT / "tests",
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert "1 failed, 1 deselected" in done.stdout, done.stdout + done.stderr
    known, failed = steadiness.rows(records)
    assert len(failed) == 2
    assert "twins >= 0.95" in failed[0]
    found = [(row.op, row.figures, row.bounds, row.margin) for row in known]
    assert [one[:2] for one in found] == [
        (">", (0.9, 0.9)),
        ("<", (0.2, 0.2)),
        ("<", pytest.approx((0.3, 0.3))),
        ("==", (0.5, 0.5)),
        (">=", (0.9, 0.9)),
    ]
    assert found[1][2] == pytest.approx((0.7, 0.7))
    assert [one[3] for one in found] == [math.inf] * 4 + [-math.inf]


def test_a_margin_counts_standard_deviations_of_the_distance(steadiness, tmp_path):
    record = tmp_path / "one.jsonl"
    base = {"test": "t", "line": 3, "count": 0, "text": "a > 0.5", "op": ">", "bound": 0.5, "passed": True}
    lines = [base | {"figure": 0.5 + away, "distance": away} for away in (0.1, 0.2, 0.3)]
    record.write_text("\n".join(json.dumps(line) for line in lines))
    ((row,), failed) = steadiness.rows([record])
    assert row.margin == pytest.approx(0.2 / 0.1)
    assert row.line_of(3.0).startswith("<     2.0   3       0.7       0.1       0.6  >       0.5  t:3")
    assert failed == []


@pytest.mark.parametrize(
    ("op", "left", "right", "sides"),
    [
        ("<", 0.25, torch.tensor(0.5), (0.25, 0.5, 0.25)),
        (">=", np.float32(0.5), 1, (0.5, 1.0, -0.5)),
        ("==", 0.5, pytest.approx(0.5), None),  # exact but for rounding
        ("==", 3, 3, None),
        (">", 0.1, 0, None),  # whether there is any
        ("<=", 0.9, 1, None),  # whether it is a share
        ("<", True, 2, None),
        (">", torch.tensor(0.5, requires_grad=True), 0.25, (0.5, 0.25, 0.25)),
        ("<", torch.ones(2), 2, None),
    ],
)
def test_figures_are_numbers_that_may_be_more_or_less(op, left, right, sides):
    assert _figures(op, left, right) == sides


def test_without_a_shift_nothing_differs(monkeypatch):
    before, plain = Run(seed=1).derived_seed("a"), Run.derived_seed
    monkeypatch.setattr(Run, "derived_seed", plain)  # puts it back
    monkeypatch.setattr(margins, "_SHIFT", 0)
    margins.shift_seeds(0)
    assert margins.shifted(5) == 5
    assert Run(seed=1).derived_seed("a") == before
    margins.shift_seeds(2)
    assert margins.shifted(5) == 2005
    assert Run(seed=1).derived_seed("a") != before
    assert margins.command(Path("x.py"))[-1] == "x.py"


def test_what_asks_for_a_trained_network_is_marked():
    marked = []

    def item(name, fixture, marker=None):
        return SimpleNamespace(
            fixturenames=[fixture],
            add_marker=lambda mark: marked.append((name, mark)),
            get_closest_marker=lambda asked: marker if asked == marker else None,
        )

    margins.mark([item("a", "twins"), item("b", "tmp_path"), item("c", "twins", "exact")])
    assert marked == [("a", "effect")]
