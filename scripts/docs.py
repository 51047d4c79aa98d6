"""Write docs/methods: a page per method, made from its docstring and its hyper-parameters.

    .venv/bin/python scripts/docs.py           writes the pages
    .venv/bin/python scripts/docs.py --check   names those that are not current, and exits with 1

The pages are kept in the repository, so that they can be read without running anything.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from pathlib import Path

from detrojan import catalog
from detrojan.guards.base import Guard
from detrojan.method import Method
from detrojan.repairs.base import Repair

ROOT = Path(__file__).resolve().parent.parent
METHODS = ROOT / "docs" / "methods"
TITLES = {
    "attacks": "Attacks: make test material",
    "scans": "Scans: judge a model",
    "repairs": "Repairs: mend a model",
    "guards": "Guards: judge an input",
    "trainers": "Trainers: train on suspect data",
    "filters": "Filters: judge a data set",
}
#: how a method is called, by its room and verb: in the shell, and in Python
CALLS = {
    ("attacks", "poison"): (
        "attack {name} --data DATA --net NET --out FOLDER",
        "poisoned = {cls}().poison(data, run=Run())",
    ),
    ("attacks", "train"): (
        "attack {name} --data DATA --net NET --out FOLDER",
        "planted = {cls}().train(model, data, run=Run())",
    ),
    ("scans", "scan"): (
        "scan MODEL --data DATA --method {name}",
        "result = {cls}().scan(model, data, run=Run())",
    ),
    ("repairs", "repair"): (
        "repair MODEL --data DATA --findings SCAN.json --method {name} --out FILE",
        "repaired = {cls}().repair(model, data, result.flagged, run=Run())",
    ),
    ("guards", "calibrate"): (
        "guard calibrate MODEL --data DATA --method {name} --out FOLDER",
        "guard = {cls}().calibrate(model, clean, run=Run())",
    ),
    ("trainers", "train"): (
        "train --data DATA --net NET --method {name} --out FOLDER",
        "trained = {cls}().train(model, data, run=Run())",
    ),
    ("filters", "suspect"): (
        "filter DATA --net NET --method {name} --out FOLDER",
        "suspects = {cls}().suspect(data, model=model, run=Run())",
    ),
}
MADE = "<!-- Made by scripts/docs.py from the docstring; edit that one. -->"


def type_text(hint: object) -> str:
    """Return a type as a reader writes it."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(hint))
    return inspect.formatannotation(hint).replace("typing.", "").replace("pathlib.", "")


def cell(text: str) -> str:
    """Return text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def body(method: type[Method]) -> str:
    """Return the docstring's prose: what stands between the summary and the sections."""
    kept = []
    for paragraph in inspect.cleandoc(method.__doc__ or "").split("\n\n")[1:]:
        if paragraph.startswith(("Args:", "Raises:", "Attributes:")):
            break
        if not paragraph.startswith("Reference:"):
            kept.append(paragraph)
    return "\n\n".join(kept)


def page(room: str, method: type[Method]) -> str:
    """Return the page of one method, as Markdown."""
    lines = [MADE, "", f"# {method.name}", "", method.summary(), ""]
    if prose := body(method):
        lines += [prose, ""]
    if issubclass(method, Guard):
        lines += [f"{method.lets_through} [What was measured](../../results/guards.md) says more.", ""]
    lines += [f"Reference: {method.reference()}", ""]
    hints = typing.get_type_hints(method)
    documented = method.parameter_docs()
    fields = dataclasses.fields(method)
    if fields:
        lines += ["| Hyper-parameter | Type | Default | Meaning and range |", "|---|---|---|---|"]
        lines += [
            f"| `{field.name}` | {cell(type_text(hints[field.name]))} "
            f"| `{cell(default_text(field))}` | {cell(documented.get(field.name, ''))} |"
            for field in fields
        ]
    else:
        lines += ["It has no hyper-parameters."]
    module = method.__module__
    source = "../../../src/" + module.replace(".", "/") + ".py"
    shell, python = CALLS[room, catalog.verb(room, method)]
    lines += [
        "",
        "```sh",
        f"detrojan {shell.format(name=method.name)}",
        "```",
        "",
        "```python",
        f"from detrojan import {method.__name__}, Run",
        "",
        python.format(cls=method.__name__),
        "```",
        "",
    ]
    if issubclass(method, Repair) and not method().needs_triggers():
        lines += ["It needs no trigger, so `detrojan repair --blind` can use it too.", ""]
    lines += [f"Source: [{module}]({source}).", ""]
    return "\n".join(lines)


def default_text(field: dataclasses.Field[typing.Any]) -> str:
    """Return the default of a hyper-parameter as it would be written."""
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return repr(field.default)


def index() -> str:
    """Return the list of all methods, as Markdown."""
    lines = [MADE, "", "# Methods", ""]
    for room in catalog.rooms():
        found = catalog.methods(room)
        if found:
            lines += [f"## {TITLES[room]}", ""]
            lines += [f"- [{name}]({room}/{name}.md): {method.summary()}" for name, method in found.items()]
            lines += [""]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return every page by its path."""
    made = {METHODS / "index.md": index()}
    for room in catalog.rooms():
        for name, method in catalog.methods(room).items():
            made[METHODS / room / f"{name}.md"] = page(room, method)
    return made


def stale() -> list[str]:
    """Return what is wrong with the pages that lie there, one line each."""
    wanted = pages()
    there = set(METHODS.rglob("*.md"))
    wrong = [f"{path.relative_to(ROOT)} belongs to no method" for path in sorted(there - wanted.keys())]
    for path, text in wanted.items():
        if path not in there:
            wrong.append(f"{path.relative_to(ROOT)} is missing")
        elif path.read_text(encoding="utf-8") != text:
            wrong.append(f"{path.relative_to(ROOT)} is not current")
    return wrong


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv[1:]:
        wrong = stale()
        print("\n".join(wrong) or "docs/methods is current")
        return 1 if wrong else 0
    for path in set(METHODS.rglob("*.md")) - pages().keys():
        path.unlink()
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{len(pages())} pages in docs/methods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
