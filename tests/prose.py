"""Reads the repository's text as a person does: which files there are, their sentences, their words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
#: what the bench prints into a page; it has no sentences of ours
MADE = re.compile(r"<!-- made by: .*?<!-- end -->", re.DOTALL)
#: a full stop that ends a sentence: not that of an initial, nor of "et al."; a quotation mark may follow
_END = r"(?<!\b[A-Z]\.)(?<!\bal\.)(?<=[.!?])[\"\u201d\u2019)\]*]*"
_BREAK = re.compile(rf"{_END}\s+(?=[\"\u201c\u2018(\[*]*[A-Z0-9_`]|detrojan\b)")
_BLOCK = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+|^\s*>\s?|^#+\s+|^\s*\|")


def tracked() -> list[Path]:
    """Every file that git keeps or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def markdown() -> list[Path]:
    """Every page."""
    return [path for path in tracked() if path.suffix == ".md"]


def plain(text: str) -> str:
    """Return Markdown without code blocks, comments and made tables, and with links and code as words."""
    text = MADE.sub("\n", text)
    text = FENCE.sub("\n", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`[^`]*`", "`code`", text)


def blocks(text: str) -> list[tuple[bool, str]]:
    """Return paragraphs, list items and table cells of plain Markdown; True for the cell of a table."""
    found: list[tuple[bool, str]] = []
    open_ = False
    for line in text.splitlines():
        if not line.strip():
            open_ = False
        elif line.lstrip().startswith("|"):
            found += [(True, cell.strip()) for cell in line.strip().strip("|").split("|")]
            open_ = False
        elif _BLOCK.match(line) or not open_:
            found.append((False, _BLOCK.sub("", line).strip()))
            open_ = not line.startswith("#")
        else:
            found[-1] = (False, f"{found[-1][1]} {line.strip()}")
    return found


def split(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph."""
    return [part.strip() for part in _BREAK.split(paragraph) if part.strip()]


def words(sentence: str) -> int:
    """Return how many words a sentence has; numbers and code count as one each."""
    return len(re.findall(r"[\w`][\w'\u2019`.,%/-]*", sentence))
