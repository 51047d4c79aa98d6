from __future__ import annotations

import pytest

from detrojan.jobs.fleet.feeding import Feeding
from detrojan.jobs.fleet.policy import Policy, read_policy
from detrojan.report.records.fleet import FleetModel, ModelBaseline


def model(**values):
    return FleetModel(**{"name": "m", "path": "m", "sha256": "", "bytes": 0, "key": "k", **values})


BAD = model(status="scanned", verdict="backdoored", severity="medium")
OPEN = model(status="scanned", verdict="inconclusive")
QUIET = model(status="scanned", verdict="no evidence")
UNSAFE = model(status="skipped", category="unsafe")
CUT = model(status="skipped", category="unreadable")
LATE = model(status="waiting")
NAMELESS = model(status="scanned", verdict="backdoored")
KNOWN = BAD.model_copy(update={"baseline": ModelBaseline(accepted=1, new=0)})
PARTLY = BAD.model_copy(update={"baseline": ModelBaseline(accepted=1, new=1, severity="low")})
NEW = BAD.model_copy(update={"baseline": ModelBaseline(accepted=0, new=1, severity="medium")})
KNOWN_OPEN = OPEN.model_copy(update={"baseline": ModelBaseline(accepted=1, new=0)})


@pytest.mark.parametrize(
    ("fail", "models", "code"),
    [
        ({}, [QUIET], 0),
        ({}, [QUIET, BAD, CUT], 1),
        ({"severities": ["high"]}, [QUIET, BAD], 0),
        ({}, [QUIET, UNSAFE], 1),
        ({"unsafe": False}, [QUIET, UNSAFE], 3),
        ({"unsafe": False, "skipped": False}, [QUIET, UNSAFE, CUT], 0),
        ({}, [QUIET, CUT], 3),
        ({}, [QUIET, LATE], 3),
        ({}, [QUIET, OPEN], 3),
        ({"inconclusive": False}, [QUIET, OPEN, LATE], 0),
        ({}, [NAMELESS], 1),
        ({"severities": ["high"]}, [NAMELESS], 1),
        ({"severities": []}, [NAMELESS], 0),
        ({}, [KNOWN, KNOWN_OPEN], 0),
        ({}, [PARTLY], 1),
        ({}, [NEW], 1),
        ({"severities": ["medium", "high"]}, [PARTLY], 0),
    ],
)
def test_the_exit_code_is_the_policys(fail, models, code):
    assert Policy(fail=fail).exit_code(models) == code


def test_a_policy_names_its_files_from_where_it_lies_and_the_call_goes_before_it(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[models]\ndata = "photos"\nmean = [0.5]\n[scan]\nbudget = 60.0\n')
    said = read_policy(path, seed=4)
    assert said.models.data == str(tmp_path / "photos")
    assert (said.models.mean, said.scan.seed, said.method().budget) == ((0.5,), 4, 60)
    assert read_policy(path, "signs").models.data == "signs"
    assert read_policy(None).models.data == "none"


def test_results_depend_on_the_method_and_its_settings_alone():
    usual = Policy()
    assert usual.digest() == Policy(fail={"severities": []}).digest()
    assert usual.digest() != Policy(scan={"set": ["samples=400"]}).digest()
    assert usual.digest() != Policy(scan={"seed": 1}).digest()


def test_a_row_goes_before_the_policy_and_files_count_by_their_content(tmp_path):
    row = Feeding.read({"bgr": "no", "class_names": "names.txt"}, tmp_path, "row 1")
    over = row.over(Feeding(bgr=True, net="deepid"))
    assert (over.bgr, over.net) == (False, "deepid")
    (tmp_path / "names.txt").write_text("a")
    before = over.identity("d")
    (tmp_path / "names.txt").write_text("b")
    assert over.identity("d") != before
    assert over.identity("d")["data"] == "d"
