"""Put the bench's tables into docs/results, where a comment names the results they are made from.

    .venv/bin/python scripts/results.py           renders them again
    .venv/bin/python scripts/results.py --check   exits with 1 and names the pages that are not current

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
PAGES = ROOT / "docs" / "results"
_TABLE = re.compile(
    r"(<!-- made by: detrojan bench table (?P<files>[^\n]+) --format markdown -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def pages() -> list[Path]:
    """Return the pages of results."""
    return sorted(PAGES.glob("*.md"))


def sources(text: str) -> list[str]:
    """Return the files of results that a page's tables are made from."""
    return [name for found in _TABLE.finditer(text) for name in found["files"].split()]


def rendered(text: str) -> str:
    """Return a page with every table made again from the committed results."""

    def table(found: re.Match[str]) -> str:
        rows = [row for name in found["files"].split() for row in read_rows(ROOT / name)]
        return f"{found[1]}{render(tables(rows), 'markdown')}{found[3]}"

    return _TABLE.sub(table, text)


def stale() -> list[Path]:
    """Return the pages whose tables are not what the results say."""
    return [page for page in pages() if (text := page.read_text(encoding="utf-8")) != rendered(text)]


def main() -> int:
    """Write the pages, or check them."""
    wrong = stale()
    names = ", ".join(str(page.relative_to(ROOT)) for page in wrong)
    if "--check" in sys.argv[1:]:
        print(f"not current: {names}" if wrong else "docs/results is current")
        return 1 if wrong else 0
    for page in wrong:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {names}" if wrong else "docs/results was current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
