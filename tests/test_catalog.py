from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from detrojan import catalog
from detrojan.errors import OptionError
from detrojan.method import Method

NEW_SCAN = '''
from dataclasses import dataclass
from detrojan.scans.base import Scan
from detrojan.method import Method

@dataclass(frozen=True, kw_only=True)
class {cls}(Scan):
    """Answers nothing."""

    name = "{name}"

    def judge(self, model, ready, run):
        raise NotImplementedError

class Unnamed({cls}):
    name = ""

class Abstract(Scan):
    name = "abstract"
'''


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder that is looked into as part of the scans; the catalog forgets it afterwards."""
    package = importlib.import_module("detrojan.scans")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    before = set(sys.modules)
    catalog._methods.cache_clear()
    yield tmp_path
    catalog._methods.cache_clear()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_rooms_are_the_folders_that_exist():
    source = Path(catalog.__file__).parent
    assert {"attacks", "scans", "repairs"} <= set(catalog.rooms())
    assert all((source / room / "__init__.py").exists() for room in catalog.rooms())


def test_every_method_is_a_concrete_named_method_of_its_room():
    for name in catalog.rooms():
        for called, method in catalog.methods(name).items():
            assert issubclass(method, Method)
            assert method.name == called
            assert method.__module__.startswith(f"detrojan.{name}.")


def test_a_new_file_is_found_without_registration(room):
    (room / "brand_new.py").write_text(NEW_SCAN.format(cls="BrandNew", name="brand_new"))
    found = catalog.methods("scans")
    assert found["brand_new"].__name__ == "BrandNew"
    assert "abstract" not in found
    assert "" not in found
    assert catalog.find("scans", "brand_new") is found["brand_new"]


def test_a_method_imported_from_another_file_counts_once(room):
    (room / "brand_new.py").write_text(NEW_SCAN.format(cls="BrandNew", name="brand_new"))
    (room / "user.py").write_text("from detrojan.scans.brand_new import BrandNew")
    assert catalog.methods("scans")["brand_new"].__module__ == "detrojan.scans.brand_new"


def test_two_methods_of_one_name_are_refused(room):
    (room / "one.py").write_text(NEW_SCAN.format(cls="One", name="same"))
    (room / "two.py").write_text(NEW_SCAN.format(cls="Two", name="same"))
    with pytest.raises(TypeError, match="both called 'same'"):
        catalog.methods("scans")


def test_the_caller_cannot_change_the_catalog():
    catalog.methods("scans").clear()
    catalog.methods("scans")["x"] = Method
    assert "x" not in catalog.methods("scans")


def test_an_unknown_method_is_answered_with_the_known_ones(room):
    (room / "brand_new.py").write_text(NEW_SCAN.format(cls="BrandNew", name="brand_new"))
    with pytest.raises(OptionError, match=r"expected one of the scans .*brand_new.*, got 'divination'"):
        catalog.find("scans", "divination")


def test_an_unknown_room_is_answered_with_the_known_ones():
    with pytest.raises(OptionError, match=r"expected a room out of attacks, scans, repairs.*, got 'kitchen'"):
        catalog.methods("kitchen")


def test_each_method_has_a_verb_of_its_room():
    attacks = catalog.methods("attacks")
    assert catalog.verb("attacks", attacks["badnets"]) == "poison"
    assert catalog.verb("attacks", attacks["dynamic"]) == "train"
    for room in catalog.rooms():
        for method in catalog.methods(room).values():
            assert callable(getattr(method, catalog.verb(room, method)))
