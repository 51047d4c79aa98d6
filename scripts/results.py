"""Put the bench's tables into docs/results.md, where a comment names the results they are made from.

    .venv/bin/python scripts/results.py           renders them anew
    .venv/bin/python scripts/results.py --check   exits with 1 where one is not current

A table stands between two comments: the first is the command that prints it
(`made by: detrojan bench table FILES --format markdown`), the second says `end`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from detrojan.benchmark.results import read_rows
from detrojan.benchmark.tables import render, tables

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
_TABLE = re.compile(
    r"(<!-- made by: detrojan bench table (?P<files>[^\n]+) --format markdown -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def rendered(text: str) -> str:
    """Return the page with every table made anew from the committed results."""

    def table(found: re.Match[str]) -> str:
        rows = [row for name in found["files"].split() for row in read_rows(ROOT / name)]
        return f"{found[1]}{render(tables(rows), 'markdown')}{found[3]}"

    return _TABLE.sub(table, text)


def main() -> int:
    """Write the page, or check it."""
    text = PAGE.read_text(encoding="utf-8")
    made = rendered(text)
    if "--check" in sys.argv[1:]:
        print("docs/results.md is current" if made == text else "docs/results.md is not current")
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
