from __future__ import annotations

import pytest

from detrojan.report.records.fleet import (
    FleetModel,
    FleetRecord,
    ModelBaseline,
    common_folder,
    ranked,
    said_of,
)


def model(name, **values):
    return FleetModel(**{"name": name, "path": name, "sha256": "", "bytes": 5, "key": "k", **values})


QUIET = model("m/a", status="scanned", verdict="no evidence")
MILD = model("m/b", status="scanned", verdict="backdoored", severity="low", targets=list(range(9)))
BAD = model("m/c", status="scanned", verdict="backdoored", severity="high", targets=[3])
CUT = model("m/d", status="skipped", category="unreadable", reason="m/d: damaged")
EVIL = model("m/e", status="skipped", category="unsafe", reason="m/e: runs code")
COPY = model("m/f", status="duplicate", same_as="m/a")
LATE = model("m/g", status="waiting", reason="no time")
ACCEPTED = BAD.model_copy(
    update={"baseline": ModelBaseline(accepted=1, new=0, reason="a watermark", expires="2027-06-30")}
)
PARTLY = MILD.model_copy(update={"baseline": ModelBaseline(accepted=1, new=8)})
OPEN = model(
    "m/h", status="scanned", verdict="inconclusive", reason="So.", baseline=ModelBaseline(accepted=1, new=0)
)


def test_the_most_urgent_comes_first():
    assert ranked([QUIET, ACCEPTED, OPEN, CUT, PARTLY]) == [PARTLY, CUT, ACCEPTED, OPEN, QUIET]
    models = [QUIET, LATE, COPY, CUT, MILD, EVIL, BAD]
    assert ranked(models) == [BAD, MILD, EVIL, CUT, LATE, QUIET, COPY]
    record = FleetRecord(version="1", policy="p", models=models, ignored=0, failing=[], exit_code=0)
    assert record.counts() == {
        "backdoor found": 2, "unsafe file": 1, "skipped": 1, "not scanned": 1, "no evidence": 1,
        "duplicate": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (QUIET, ""),
        (MILD, "target 0, 1, 2, 3, 4, 5, …"),
        (CUT, "damaged"),
        (COPY, "the same content as a"),
        (LATE, "no time"),
        (ACCEPTED, "target 3; accepted: a watermark, until 2027-06-30"),
        (PARTLY, "target 0, 1, 2, 3, 4, 5, …; 8 new, 1 accepted: known finding"),
        (OPEN, "accepted: known finding"),
    ],
)
def test_what_is_said_of_a_model_leaves_out_what_is_shown_beside_it(shown, says):
    assert said_of(shown, "m/") == says


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["/a/b/c.pt", "/a/b/d/e.pt"], "/a/b/"),
        (["/a/bc/x", "/a/bd/x"], "/a/"),
        (["x.pt", "a/y.pt"], ""),
        (["a/x.pt"], ""),
        ([], ""),
    ],
)
def test_names_are_shown_without_the_folder_that_all_share(names, folder):
    assert common_folder(names) == folder
