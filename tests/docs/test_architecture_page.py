"""The page and the picture of the architecture name every part of the package."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from prose import ROOT

DOCS = ROOT / "docs"
PARTS = sorted(
    path.name for path in (ROOT / "src" / "detrojan").iterdir() if path.is_dir() and path.name[0] != "_"
)


def test_the_page_names_every_part():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert len(PARTS) > 10
    assert [part for part in PARTS if f"`{part}`" not in text] == []


def test_the_picture_names_every_part():
    texts = [node.text for node in ET.parse(DOCS / "architecture.svg").iter() if node.text]
    assert [part for part in PARTS if part not in texts] == []
