"""Sections of docstrings match the code."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from collections.abc import Iterator

import pytest

from detrojan import errors
from prose import ROOT

SOURCE = ROOT / "src" / "detrojan"


def section(docstring: str, title: str) -> list[str] | None:
    """Return the names listed in a Google-style section, or None where there is no such section."""
    found = re.search(rf"^{title}:\n((?:(?:    .*)?\n)+)", inspect.cleandoc(docstring) + "\n\n", re.MULTILINE)
    return None if found is None else re.findall(r"^    ([\w, ]+):", found[1], re.MULTILINE)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    listed = node.args
    names = [a.arg for a in (*listed.posonlyargs, *listed.args)]
    names += [listed.vararg.arg] if listed.vararg else []
    names += [a.arg for a in listed.kwonlyargs]
    names += [listed.kwarg.arg] if listed.kwarg else []
    return [name for name in names if name not in {"self", "cls"}]


def class_names(node: ast.ClassDef) -> tuple[list[str] | None, set[str]]:
    """Return what a class is constructed with (None: as its base), and its public attributes."""
    stated = {
        item.target.id: ast.unparse(item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    fields = [name for name, kind in stated.items() if not kind.startswith("ClassVar")]
    makers = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    wanted = parameters(makers[0]) if makers else (fields or None)
    assigned = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
    }
    return wanted, {*stated, *assigned}


def wrong_sections(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node) or ""
        listed = section(docstring, "Args")
        if isinstance(node, ast.ClassDef):
            wanted, attributes = class_names(node)
            unknown = set(section(docstring, "Attributes") or []) - attributes
            if unknown:
                yield f"{node.name}: Attributes names {', '.join(sorted(unknown))}, which it lacks"
        else:
            wanted = parameters(node)
        if listed is not None and wanted is not None and listed != wanted:
            yield f"{node.name}: Args lists {', '.join(listed)}; it takes {', '.join(wanted)}"
        for names in section(docstring, "Raises") or []:
            for name in names.split(", "):
                if not hasattr(errors, name) and not hasattr(builtins, name):
                    yield f"{node.name}: Raises names {name}, which is no error of ours"


def test_docstring_sections_match_the_code():
    assert [
        f"{path.relative_to(SOURCE)}: {wrong}"
        for path in sorted(SOURCE.rglob("*.py"))
        for wrong in wrong_sections(ast.parse(path.read_text(encoding="utf-8")))
    ] == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(a, b):\n    '''X.\n\n    Args:\n        a: one.\n    '''", "Args lists a; it takes a, b"),
        ("def f(a):\n    '''X.\n\n    Raises:\n        DateError: never.\n    '''", "Raises names DateError"),
        (
            "class A:\n    '''X.\n\n    Args:\n        z: one.\n    '''\n    y: int = 0",
            "Args lists z; it takes y",
        ),
        ("class A:\n    '''X.\n\n    Attributes:\n        z: one.\n    '''\n    y: int = 0", "names z"),
    ],
)
def test_a_wrong_section_is_noticed(code, says):
    assert says in next(wrong_sections(ast.parse(code)))
