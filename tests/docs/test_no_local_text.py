"""No text speaks of the machine it was written on."""

from __future__ import annotations

import re

import pytest

from prose import ROOT, tracked

#: each pattern is written so that it does not match itself
LOCAL = re.compile(
    r"(?<![\w.])/(?:wor[k]|hom[e]/\w|roo[t]/|op[t]/)|"
    r"py[p]i\.org|pythonhoste[d]|download\.pytorc[h]|"
    r"thi[s] session|previou[s] session|\bth[e] brief\b|\bissu[e] #?\d",
    re.IGNORECASE,
)


def test_no_text_speaks_of_one_machine_or_of_how_it_was_written():
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {match[0]}"
            for number, line in enumerate(lines, 1)
            if (match := LOCAL.search(line))
        ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /wor" + "k/main", "at py" + "pi.org", "in thi" + "s session", "issu" + "e 2"]
)
def test_local_text_is_noticed(text):
    assert LOCAL.search(text)
