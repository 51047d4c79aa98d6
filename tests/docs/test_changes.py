"""Each change since the last release is a file that a release can collect."""

from __future__ import annotations

import re
import tomllib

from prose import ROOT

CHANGES = sorted(path for path in (ROOT / "changes").iterdir() if path.name != "README.md")


def test_changes_are_numbered_files_with_a_short_first_line():
    for path in CHANGES:
        assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", path.name), path.name
        first = path.read_text(encoding="utf-8").partition("\n\n")[0]
        assert first.strip(), path.name
        assert not first.startswith(("#", "-")), path.name


def test_the_changelog_has_the_version_of_the_package_on_top():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert releases[0] == version
