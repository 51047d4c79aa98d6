"""The package's public names are complete, typed and documented, and cost nothing before use."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import detrojan
from detrojan import catalog, errors, triggers
from detrojan.triggers.base import Trigger

NAMES = [name for name in detrojan.__all__ if name != "__version__"]


def typed() -> dict[str, str]:
    """Return the module of each public name, as type checkers read it."""
    stub = Path(detrojan.__file__).with_suffix(".pyi")
    return {
        alias.asname or "": node.module or ""
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def defined(package, base: type) -> set[str]:
    """Return the classes of a package that have a base, where they are defined."""
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    return {
        name
        for module in modules
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and member.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_what_its_module_calls_so(name: str) -> None:
    found = getattr(detrojan, name)
    assert found.__name__ == name
    assert found.__module__ == detrojan._NAMES[name]
    assert inspect.getdoc(found), "expected a docstring"


def test_what_is_exported_is_typed_and_found() -> None:
    assert typed() == detrojan._NAMES
    assert sorted(typed()) == sorted(NAMES)


def test_every_method_error_and_trigger_is_exported() -> None:
    methods = {method.__name__ for room in catalog.rooms() for method in catalog.methods(room).values()}
    ours = {
        name
        for name, member in vars(errors).items()
        if inspect.isclass(member) and issubclass(member, errors.DetrojanError)
    }
    assert (methods | ours | defined(triggers, Trigger)) - set(NAMES) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = detrojan.nothing


def test_the_names_are_listed_for_completion() -> None:
    assert dir(detrojan) == sorted(detrojan.__all__)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, detrojan; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_package_runs_as_a_module() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "detrojan", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip().endswith(f"version {detrojan.__version__}")
