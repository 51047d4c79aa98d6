"""Tables out of a results file: attacks down, defences across, means over seeds, documents' beside."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detrojan.benchmark.averages import mean, values
from detrojan.benchmark.guard_tables import figure_tables, side_by_side
from detrojan.benchmark.parts import NONE
from detrojan.benchmark.results import Row

CROSSED = "crossed"
CROSSED_NOTE = (
    "crossed: how often the trigger that was drawn for one image works on another one, in percent, "
    "for triggers that should fit one image only."
)
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Results</title><style>
body { font: 15px sans-serif; margin: 2em } table { border-collapse: collapse }
td, th { border: 1px solid #bbb; padding: .3em .6em; text-align: left }
</style></head><body>
"""
Form = Literal["text", "markdown", "html"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: what is in it, and what must be known about it.

    Attributes:
        title: one line.
        columns: heads, the first that of the rows' names.
        rows: texts, one per column.
        notes: sentences below.

    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def tables(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each plan, profile, data set and network, in the order of the rows.

    Where there are several guards, each of their figures has a table of its own.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        plan = row.get("plan") or {}
        key = (str(plan.get("name")), str(row["profile"]), str(row["data"]), str(row["network"]))
        groups.setdefault(key, []).append(row)
    return [table for group in groups.values() for table in _tables(group)]


def _tables(rows: list[Row]) -> list[Table]:
    """Return the tables of one plan, profile, data set and network."""
    guards = side_by_side(rows)
    whole = _table(rows, guards)
    return [
        whole,
        *(
            Table(
                title=f"{one.figure}: {whole.title}",
                columns=("attack", *guards),
                rows=one.rows,
                notes=(one.note,),
            )
            for one in (figure_tables(rows, guards) if guards else ())
        ),
    ]


def _table(rows: list[Row], apart: Sequence[str]) -> Table:
    """Return the table of all defences but those that stand apart."""
    attacks = list(dict.fromkeys(str(row["attack"]) for row in rows))
    defences = [name for name in dict.fromkeys(str(row["defence"]) for row in rows) if name not in apart]
    first = rows[0]
    about = first.get("about") or {}
    crossed = bool(values([row.get("subject") or {} for row in rows], "cross_asr"))
    extra = [""] * crossed
    body = []
    for attack in attacks:
        own = [row for row in rows if row["attack"] == attack]
        texts = [_cell([row for row in own if row["defence"] == defence]) for defence in defences]
        if crossed:
            others = _by_seed(own, "subject", "cross_asr")
            texts.insert(0, mean(others) if others else "")
        body.append((attack, mean(_by_seed(own, "twin", "ca")), *texts))
    for name, twin, *texts in _average(rows, attacks, defences):
        body.append((name, twin, *extra, *texts))
    data = f"{first['data']} ({about['data']})" if about.get("data") else str(first["data"])
    plan = first.get("plan") or {}
    return Table(
        title=f"{plan.get('title', '')}: {data}, {about.get('network') or first['network']}",
        columns=("attack", "clean twin", *[CROSSED] * crossed, *defences),
        rows=tuple(body),
        notes=(*_notes(rows, apart), *[CROSSED_NOTE] * crossed),
    )


def _by_seed(rows: list[Row], part: str, name: str) -> list[float]:
    """Return a figure of the subject or its twin, once for each seed: all cells of a seed share them."""
    found = {row["seed"]: row.get(part) or {} for row in rows if row["status"] == "done"}
    return values(list(found.values()), name)


def _cell(rows: list[Row]) -> str:
    if not rows:
        return ""
    done = [row for row in rows if row["status"] == "done"]
    if not done:
        return "failed" if any(row["status"] == "failed" for row in rows) else "n/a"
    shown = _FORMS.get(str(done[0].get("room")), _accuracy)(_figures(done))
    reference = done[0].get("reference")
    if isinstance(reference, dict):
        said = _FORMS.get(str(done[0].get("room")), _accuracy)([reference])
        shown += f" [{said}]"
    return shown + ("*" if len(done) < len(rows) else "")


def _figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [row.get("figures") or {} for row in rows]


def _accuracy(figures: Sequence[dict[str, Any]]) -> str:
    accuracy = values(figures, "ca")
    shown = mean(accuracy) if accuracy or not values(figures, "agreement") else (
        f"agr. {mean(values(figures, 'agreement'))}"
    )  # fmt: skip
    shown += f" / {mean(values(figures, 'asr'))}"
    precision = values(figures, "isolation_precision")
    return shown + (f" (isolated {mean(precision)} right)" if precision else "")


def _scan(figures: Sequence[dict[str, Any]]) -> str:
    flagged, count = sum(values(figures, "flagged")), len(figures)
    right = values(figures, "target_right")
    words = f"flagged {flagged:g}/{count}"
    return words + (f", target {sum(right):g}/{len(right)}" if right else "")


def _guard(figures: Sequence[dict[str, Any]]) -> str:
    plain = f"FRR {mean(values(figures, 'frr'), 2)} / FAR {mean(values(figures, 'far'), 2)}"
    at_one, at_five = (values(figures, f"far_at_{rate}") for rate in (0.01, 0.05))
    if not at_one:
        return plain
    return f"AUROC {mean(values(figures, 'auroc'))}, {plain} ({mean(at_one)} at 1%, {mean(at_five)} at 5%)"


def _filter(figures: Sequence[dict[str, Any]]) -> str:
    return f"precision {mean(values(figures, 'precision'))} / recall {mean(values(figures, 'recall'))}"


_FORMS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    "scans": _scan,
    "guards": _guard,
    "filters": _filter,
}


def _average(rows: list[Row], attacks: list[str], defences: list[str]) -> list[tuple[str, ...]]:
    """Return a row of averages over the attacks, where there are several and figures that can be averaged."""
    real = [attack for attack in attacks if attack != NONE]
    if len(real) < 2:
        return []
    texts = []
    for defence in defences:
        own = [row for row in rows if row["defence"] == defence and row["attack"] in real]
        done = [row for row in own if row["status"] == "done"]
        plain = all(str(row.get("room")) in {"", "repairs", "trainers"} for row in done)
        whole = plain and len({row["attack"] for row in done}) == len(real)
        means = [mean(values(_figures(done), name)).partition("±")[0] for name in ("ca", "asr")]
        texts.append(" / ".join(means) if whole else "")
    return [("average", "", *texts)] if any(texts) else []


def _notes(rows: list[Row], apart: Sequence[str]) -> list[str]:
    """Return what the figures are, where they came from, and which cells are missing."""
    rooms = {str(row.get("room")) for row in rows}
    notes = []
    if rooms & {"", "repairs", "trainers"}:
        notes.append("Cells are clean accuracy / attack success in percent, on images nobody trained on.")
    if not apart and any("far_at_0.01" in (row.get("figures") or {}) for row in rows):
        notes.append(
            "Guards: AUROC, FRR / FAR in percent at the guard's own boundary, and in brackets the FAR at an "
            "FRR of exactly 1% and 5% of the judging images."
        )
    references = sorted(
        {str(row["reference"].get("source")) for row in rows if isinstance(row.get("reference"), dict)}
    )
    if references:
        notes.append(f"[In brackets: {'; '.join(references)}.]")
    sizes = rows[0].get("sizes") or {}
    stated = ", ".join(f"{name} {value}" for name, value in sizes.items() if value is not None)
    seeds = sorted({row["seed"] for row in rows}, key=str)
    notes.append(
        f"Profile {rows[0]['profile']}{f' ({stated})' if stated else ''}; "
        f"seeds {', '.join(map(str, seeds))}; {_seconds(rows)}."
    )
    notes.append(_origin(rows))
    for row in rows:
        if row["status"] != "done":
            place = f"{row['attack']} / {row['defence']} (seed {row['seed']})"
            notes.append(f"{place}: {row['status']}: {row.get('reason', '')}")
    return notes


def _seconds(rows: list[Row]) -> str:
    """Return the time that making everything took, each shared network counted once."""
    shared: dict[tuple[str, ...], float] = {}
    own = 0.0
    for row in rows:
        spent = row.get("seconds") or {}
        shared[str(row["seed"]), "twin"] = float(spent.get("twin", 0))
        shared[str(row["seed"]), "attack", str(row["attack"])] = float(spent.get("attack", 0))
        own += float(spent.get("defence", 0)) + float(spent.get("scan", 0))
    return f"{(sum(shared.values()) + own) / 60:.1f} minutes of computing"


def _origin(rows: list[Row]) -> str:
    found = []
    for name, word in (
        ("commit", "commit"), ("device_name", "device"), ("threads", "threads"), ("torch", "torch"),
    ):  # fmt: skip
        stated = {str((row.get("provenance") or {}).get(name)) for row in rows} - {"None"}
        shown = sorted(value[:12] for value in stated)
        if shown:
            found.append(f"{word} {', '.join(shown)}")
    if any((row.get("settings") or {}).get("mixed_precision") for row in rows):
        found.append("trained in bfloat16")
    changed = any((row.get("provenance") or {}).get("changed_since_commit") for row in rows)
    plans = sorted({str((row.get("plan") or {}).get("sha256"))[:12] for row in rows})
    dirty = " (sources changed since)" if changed else ""
    return f"Made with {'; '.join(found)}{dirty}; plan {', '.join(plans)}."


def render(found: Sequence[Table], form: Form) -> str:
    """Return tables as plain text, Markdown or an HTML page."""
    if form == "html":
        body = "\n".join(_html(table) for table in found)
        return f"{_HEAD}{body}\n</body></html>\n"
    return "\n".join((_markdown if form == "markdown" else _text)(table) for table in found)


def _text(table: Table) -> str:
    lines = [table.columns, *table.rows]
    widths = [max(len(_clean(line[place])) for line in lines) for place in range(len(table.columns))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            _clean(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)
        ).rstrip()

    rule = "  ".join("-" * width for width in widths)
    notes = [_clean(note) for note in table.notes]
    body = [line(table.columns), rule, *map(line, table.rows)]
    return "\n".join([_clean(table.title), "", *body, "", *notes, ""])


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_escaped(cell) for cell in cells)} |"

    rule = f"|{'---|' * len(table.columns)}"
    notes = [f"- {_escaped(note)}" for note in table.notes]
    body = [line(table.columns), rule, *map(line, table.rows)]
    return "\n".join([f"### {_escaped(table.title)}", "", *body, "", *notes, ""])


def _html(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(_clean(cell))}</{tag}>' for cell in cells)}</tr>"

    notes = "".join(f"<li>{html.escape(_clean(note))}</li>" for note in table.notes)
    body = "\n".join(line(row, "td") for row in table.rows)
    title, head = html.escape(_clean(table.title)), line(table.columns, "th")
    return f"<h2>{title}</h2>\n<table>\n{head}\n{body}\n</table>\n<ul>{notes}</ul>"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    plain = _clean(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "*_[]`" else char for char in plain)


def _clean(text: str) -> str:
    """Return text in one line without control characters: a results file may come from anybody."""
    return "".join(char if char.isprintable() else " " for char in text)
