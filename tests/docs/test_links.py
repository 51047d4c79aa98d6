"""Links inside the repository lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prose import FENCE, ROOT, markdown

LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")


def anchor(heading: str) -> str:
    """Return a heading's anchor as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(path: Path, text: str) -> Iterator[str]:
    prose = FENCE.sub("", text)
    for found in LINK.finditer(prose):
        link = found[1] or found[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, part = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"{link}: no such file"
        elif part and target.suffix == ".md":
            body = text if target == path else target.read_text(encoding="utf-8")
            headings = re.findall(r"^#+\s+(.*)$", FENCE.sub("", body), re.MULTILINE)
            if part not in map(anchor, headings):
                yield f"{link}: no such heading"


def test_links_inside_the_repository_resolve():
    found = markdown()
    assert len(found) > 5
    assert [
        f"{path.relative_to(ROOT)}: {dead}"
        for path in found
        for dead in dead_links(path, path.read_text(encoding="utf-8"))
    ] == []


def test_a_dead_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "there.md").write_text("# Some Heading: here\n")
    text = (
        "# Top\n[a](there.md) [b](gone.md) [c](#top) [d](#bottom) [e](there.md#some-heading-here)\n"
        '[f](there.md#other) [g](https://example.org/x)\n<img src="gone.png">\n```\n[h](not-a-link.md)\n```\n'
    )
    page.write_text(text)
    assert [dead.partition(":")[0] for dead in dead_links(page, text)] == [
        "gone.md",
        "#bottom",
        "there.md#other",
        "gone.png",
    ]
