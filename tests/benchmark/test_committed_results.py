"""The results that are kept in the repository, and the pages that show them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from detrojan.benchmark.results import read_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmark" / "results").glob("*.jsonl"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("detrojan_results", ROOT / "scripts" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_committed_result_says_where_it_came_from(path):
    rows = read_rows(path)
    assert rows
    for row in rows:
        assert row["status"] in {"done", "not applicable"}
        origin = row["provenance"]
        assert len(origin["commit"]) == 40
        assert origin["device"]
        assert origin["seconds"] >= 0
        assert row["plan"]["sha256"]


def test_the_tables_of_the_pages_are_what_the_results_say(script):
    assert script.stale() == [], "run: .venv/bin/python scripts/results.py"


def test_every_committed_result_is_on_a_page(script):
    shown = [name for page in script.pages() for name in script.sources(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == [str(path.relative_to(ROOT)) for path in RESULTS]


def test_a_figure_changed_by_hand_is_noticed(script):
    text = (script.PAGES / "pruning.md").read_text(encoding="utf-8")
    start = text.index("<!-- made by: ")
    assert "| plain |" in text[start:]
    assert script.rendered(text[:start] + text[start:].replace("| plain |", "| plane |")) == text
