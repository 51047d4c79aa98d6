"""`detrojan list`: what there is."""

from __future__ import annotations

import dataclasses
import typing
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from detrojan.console.options import OutputOptions, debug_option, format_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detrojan.method import Method

#: the rooms' names are choices even before a room has its first method
ROOMS = ("attacks", "scans", "repairs", "guards", "trainers", "filters")
OTHERS = ("nets", "formats", "data")


@click.command(
    "list",
    short_help="List methods, networks and formats.",
    epilog="\b\nExample:\n  detrojan list scans\n  detrojan list repairs --format json\n"
    "  detrojan list nets 'timm:resnet*'",
)
@click.argument("what", type=click.Choice([*ROOMS, *OTHERS]), required=False)
@click.argument("pattern", required=False)
@format_option()
@debug_option
def command(what: str | None, pattern: str | None, format_: str) -> int:
    """List the methods with their hyper-parameters, the networks, or what can be read.

    Without WHAT everything is listed, in one line each. PATTERN keeps the names that fit it, such as
    net*. The networks of libraries are listed by timm:* and torchvision:*.
    """
    from rich.console import Group  # noqa: PLC0415 - `--help` shall be fast

    from detrojan import catalog  # noqa: PLC0415
    from detrojan.console.outputs import emit_values  # noqa: PLC0415

    kinds = [what] if what else [*catalog.rooms(), *OTHERS]
    found = {kind: entries(kind, pattern) for kind in kinds}
    text: list[RenderableType] = []
    for kind, listed in found.items():
        text += _headed(kind, listed) if what is None else [_full(entry) for entry in listed]
    if what is not None and not found[what]:
        text.append(f"There are no {what} called {pattern}." if pattern else f"There are no {what} yet.")
    if what == "nets" and pattern is None:
        text.append("More: detrojan list nets 'timm:*' and 'torchvision:*'")
    values = found[what] if what else found
    emit_values(values, OutputOptions(format_=format_), Group(*text))  # type: ignore[arg-type]
    return 0


def entries(kind: str, pattern: str | None = None) -> list[dict[str, Any]]:
    """Return what there is of one kind, as plain values with a name and a summary each.

    Args:
        kind: one of the rooms, or of the other words that `list` knows.
        pattern: keeps the names that fit it; None keeps all.

    """
    from detrojan import catalog  # noqa: PLC0415

    if kind in ROOMS:
        room = catalog.methods(kind) if kind in catalog.rooms() else {}
        found = [method_entry(method) for method in room.values()]
    elif kind == "nets":
        found = _nets(pattern)
    else:
        if kind == "data":
            from detrojan.data.formats.base import formats  # noqa: PLC0415
        else:
            from detrojan.models.formats.base import formats  # type: ignore[assignment] # noqa: PLC0415
        found = [{"name": name, "summary": summary} for one in formats() for name, summary in one.listed]
    return [entry for entry in found if pattern is None or fnmatchcase(entry["name"], pattern)]


def _nets(pattern: str | None) -> list[dict[str, Any]]:
    """Return our networks, or those of a library where the pattern begins with its name."""
    from detrojan.models.library_nets import is_library, library_names  # noqa: PLC0415
    from detrojan.models.nets import NETS  # noqa: PLC0415

    if pattern is not None and is_library(pattern):
        of = f"a network of {pattern.partition(':')[0]}"
        return [{"name": name, "summary": of} for name in library_names(pattern)]
    return [
        {
            "name": net.name,
            "summary": net.summary,
            "input_shape": list(net.shape),
            "classes": net.classes,
            "any_size": net.any_size,
        }
        for net in NETS.values()
    ]


def method_entry(method: type[Method]) -> dict[str, Any]:
    """Return a method's name, summary, reference and hyper-parameters as plain values."""
    from detrojan.jobs.settings import type_name  # noqa: PLC0415
    from detrojan.repairs.base import Repair  # noqa: PLC0415

    hints, docs = typing.get_type_hints(method), method.parameter_docs()
    return {
        "name": method.name,
        "summary": method.summary(),
        "reference": method.reference(),
        **({"needs_triggers": method().needs_triggers()} if issubclass(method, Repair) else {}),
        "hyper_parameters": [
            {
                "name": field.name,
                "type": type_name(hints[field.name]),
                "default": _default(field),
                "meaning": docs.get(field.name, ""),
            }
            for field in dataclasses.fields(method)
        ],
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    from detrojan.records import plain  # noqa: PLC0415

    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    return plain(field.default_factory()) if field.default_factory is not dataclasses.MISSING else None


def _headed(kind: str, listed: list[dict[str, Any]]) -> list[RenderableType]:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not listed:
        return []
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=16, no_wrap=True)
    table.add_column()
    for entry in listed:
        table.add_row(Text(f"  {entry['name']}"), Text(entry["summary"]))
    return [Text(kind, style="bold"), table]


def _full(entry: dict[str, Any]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    head = Text.assemble((entry["name"], "bold"), f": {entry['summary']}")
    parts: list[RenderableType] = [head]
    if entry.get("reference"):
        parts.append(Text(f"  {entry['reference']}", style="dim"))
    if entry.get("needs_triggers") is False:
        parts.append(Text("  needs no trigger: can repair --blind", style="dim"))
    if "input_shape" in entry:
        size = "x".join(map(str, entry["input_shape"]))
        more = ", or any size" if entry["any_size"] else ""
        parts.append(Text(f"  input {size}{more}; {entry['classes']} classes by default", style="dim"))
    if entry.get("hyper_parameters"):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        for field in entry["hyper_parameters"]:
            shown = "()" if field["default"] == [] else field["default"]
            table.add_row(Text(f"{field['name']}={shown}"), Text(field["meaning"]))
        parts.append(Padding(table, (0, 0, 1, 2)))
    return Group(*parts)
