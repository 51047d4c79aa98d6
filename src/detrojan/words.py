"""Numbers, names and lists as the page and the terminal show them."""

from __future__ import annotations

import unicodedata
from typing import Any

#: stands for a number that was not measured
DASH = "\u2013"
MINUS = "\u2212"
#: small letters that mean something else as capitals
_SYMBOLS = {"p"}


def printable(text: str, longest: int = 200) -> str:
    """Return `text` in one line, without control characters, shortened in the middle.

    Names come from files that an attacker wrote: escape sequences would reach the terminal, and
    marks that turn the writing direction around would make a name read as another.
    """
    shown = "".join(char if _is_harmless(char) else f"\\u{ord(char):04x}" for char in text)
    if len(shown) <= longest:
        return shown
    head = (longest - 1) * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (longest - 1 - head) :]}"


def _is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def sentence(text: str) -> str:
    """Return a text as a sentence: a capital first, but not of names such as "mm_bd"; a full stop last."""
    first = text.split(" ", 1)[0].rstrip(",.;:")
    if first.isalpha() and first.islower() and first not in _SYMBOLS:
        text = text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".!?:…" else f"{text}."


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 as e.g. "97.8%", or a dash."""
    return DASH if share is None else f"{100 * share:.1f}%"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with a fixed count of decimals, or a dash."""
    return DASH if value is None else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time span for people, e.g. "48 s", "3 min 20 s", "1 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\u00a0s"
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60}\u00a0s"
    return f"{whole // 3600}\u00a0h {whole % 3600 // 60}\u00a0min"


def plural(count: int, noun: str, many: str = "") -> str:
    """Return e.g. "1 label", "1,283 labels"; `many` is the plural where it is not noun + s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def file_name(path: str) -> str:
    """Return the last part of a path, of whatever system it is."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def label_name(label: int, name: str, longest: int = 60) -> str:
    """Return a label with its name, where that says more than the number."""
    shown = printable(name, longest).strip()
    return f"{label} “{shown}”" if shown and shown != str(label) else str(label)


def ranges(labels: list[int], most: int = 12) -> str:
    """Return labels as e.g. "0 to 39, 77"; after `most` pieces it says how many follow."""
    pieces: list[list[int]] = []
    for label in sorted(labels):
        if pieces and label == pieces[-1][1] + 1:
            pieces[-1][1] = label
        else:
            pieces.append([label, label])
    shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in pieces[:most])
    rest = sum(b - a + 1 for a, b in pieces[most:])
    return f"{shown} and {plural(rest, 'more label')}" if rest else shown


def fact_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return plain values as (name, text), for people; what is long is shortened."""
    return [
        (printable(name, 40).replace("_", " "), fact(value))
        for name, value in values.items()
        if value is not None and value not in ([], {}, "")
    ]


def fact(value: Any) -> str:
    """Return one plain value as a short text."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        more = f", … ({len(value)} in all)" if len(value) > 12 else ""
        return ", ".join(fact(item) for item in value[:12]) + more
    if isinstance(value, dict):
        return "; ".join(f"{printable(str(name), 40)} {fact(item)}" for name, item in value.items())[:200]
    return printable(str(value), 120)
