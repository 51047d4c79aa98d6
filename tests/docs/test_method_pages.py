"""The pages of the methods are what the docstrings say."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re

import pytest

from detrojan import catalog
from prose import ROOT


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("detrojan_docs", ROOT / "scripts" / "docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_the_methods_are_current(generator):
    assert generator.stale() == [], "run: make docs"


def test_a_stale_a_missing_and_a_left_over_page_are_named(generator, monkeypatch, tmp_path):
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr(generator, "METHODS", tmp_path)
    pages = {tmp_path / name: name for name in ("current.md", "stale.md", "missing.md")}
    monkeypatch.setattr(generator, "pages", lambda: pages)
    (tmp_path / "current.md").write_text("current.md")
    (tmp_path / "stale.md").write_text("old")
    (tmp_path / "gone.md").write_text("x")
    assert generator.stale() == [
        "gone.md belongs to no method",
        "stale.md is not current",
        "missing.md is missing",
    ]


@pytest.mark.parametrize("room", catalog.rooms())
def test_the_call_on_each_page_fits_the_method(generator, room):
    for method in catalog.methods(room).values():
        text = generator.page(room, method)
        (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        call = ast.parse(code).body[-1].value
        verb = getattr(method, call.func.attr)
        assert call.func.attr == catalog.verb(room, method)
        inspect.signature(verb).bind(None, *call.args, **{word.arg: None for word in call.keywords})
