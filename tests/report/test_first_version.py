"""Reports that the first version of the schema holds are read as reports of today.

The files were written by detrojan when that version was the current one, from small networks. What is
expected of each is what its page showed then.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detrojan.errors import DataError
from detrojan.findings import PIXELS, ROBUST, SHARE_OF_MEDIAN
from detrojan.report.deciding import decides_by_chance, index_unit, no_larger, significance, threshold
from detrojan.report.first_version import FIRST
from detrojan.report.html_page import render_html
from detrojan.report.reading import load_report
from detrojan.report.schema import AimFacts, EvaluateReport, RepairReport, ScanReport
from detrojan.report.text import plain_text, report_text

FILES = Path(__file__).parent / "first_version"
SCANS = {
    # file: threshold, significance, whether the p-value decides, unit of the index, labels that may be small
    "all_to_all": (None, 0.02, True, ROBUST, [0, 1, 2, 3, 4, 5, 6, 7]),
    "cascade": (None, 0.02, True, ROBUST, [0, 1, 2, 3]),
    "median": (0.6, None, False, SHARE_OF_MEDIAN, [0, 1, 3, 5]),
    "mm_bd": (None, 0.05, True, ROBUST, [0, 1, 2, 3, 4, 5, 6, 7]),
    "neural_cleanse": (2.0, 0.05, False, ROBUST, [0, 1, 3, 6]),
    "source": (None, 0.02, True, ROBUST, [1, 5, 6, 7]),
}


def read(name: str) -> tuple[dict, ScanReport]:
    """Return a scan as its file holds it, and as it is read."""
    path = FILES / f"scan_{name}.json"
    value = json.loads(path.read_text("utf-8"))
    assert value["schema"] == "detrojan.scan/1"
    report = load_report(path)
    assert isinstance(report, ScanReport)
    return value, report


@pytest.mark.parametrize("name", SCANS)
def test_what_decided_is_told_from_the_hyper_parameters(name):
    _, report = read(name)
    assert report.criterion is not None
    shown = (
        threshold(report),
        significance(report),
        decides_by_chance(report),
        index_unit(report).name,
        [entry.label for entry in no_larger(report)],
    )
    limit, chance, by_chance, unit, small = SCANS[name]
    assert shown == (limit, chance, by_chance, unit.name, small)


@pytest.mark.parametrize("name", SCANS)
def test_a_size_has_its_unit_now_and_all_else_stays(name):
    then, report = read(name)
    now = json.loads(report.to_json())
    assert now["schema"] == "detrojan.scan/2"
    for old, new in zip(then["findings"] + then["evidence"], now["findings"] + now["evidence"], strict=True):
        assert new["size"] == old["mask_l1"]
        assert new["unit"] == (None if old["mask_l1"] is None else PIXELS.name)
        same = old.keys() - {"mask_l1", "source"}
        assert {key: new[key] for key in same} == {key: old[key] for key in same}
    changed = {"schema", "findings", "evidence"}
    assert now["data"].pop("skipped") == []
    seen = now["model"]["preprocessing"]
    assert (seen.pop("channels"), seen.pop("framing")) == ("RGB", "")
    assert {key: now[key] for key in then.keys() - changed} == {
        key: then[key] for key in then.keys() - changed
    }
    assert [unit["name"] for unit in now["units"]] == ([] if name == "mm_bd" else ["pixels"])


@pytest.mark.parametrize(
    ("name", "aims"),
    [
        ("cascade", [AimFacts(target=3, source=None, offset=0)]),
        ("source", [AimFacts(target=5, source=2, offset=0)]),
        ("all_to_all", [AimFacts(target=None, source=None, offset=1)] * 8),
    ],
)
def test_a_source_becomes_an_aim(name, aims):
    assert [entry.aim for entry in read(name)[1].findings] == aims


def test_a_part_of_the_labels_with_a_source_each_is_no_all_to_all_backdoor(tmp_path):
    value, _ = read("all_to_all")
    value["findings"], value["targets"] = value["findings"][:3], value["targets"][:3]
    path = tmp_path / "part.json"
    path.write_text(json.dumps(value))
    aims = [entry.aim for entry in load_report(path).findings]
    assert [(aim.target, aim.source, aim.offset) for aim in aims] == [(0, 7, 0), (1, 0, 0), (2, 1, 0)]


def test_repairs_and_evaluations_are_read_too():
    then = json.loads((FILES / "repair.json").read_text("utf-8"))
    repair = load_report(FILES / "repair.json")
    assert isinstance(repair, RepairReport)
    assert (repair.schema_, repair.before.clean_accuracy) == (
        "detrojan.repair/2",
        then["before"]["clean_accuracy"],
    )
    (finding,) = repair.findings
    assert (finding.size, finding.unit) == (then["findings"][0]["mask_l1"], "pixels")
    evaluation = load_report(FILES / "evaluate.json")
    assert isinstance(evaluation, EvaluateReport)
    assert evaluation.trigger == "scan_cascade_triggers/label_3.safetensors"


@pytest.mark.parametrize("path", sorted(FILES.glob("*.json")), ids=lambda path: path.stem)
def test_an_old_report_is_shown_and_written_as_one_of_today(path, tmp_path):
    report = load_report(path)
    assert "nan" not in plain_text(report_text(report)).lower().split()
    assert render_html(report).count("<section") == 1
    assert load_report(report.save(tmp_path / "now.json")) == report


def test_a_damaged_old_report_is_refused_by_its_own_schema(tmp_path):
    value, _ = read("cascade")
    del value["evidence"][2]["mask_l1"]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(value))
    said = r"not a valid detrojan.scan/1 report: evidence.2.mask_l1: Field required"
    with pytest.raises(DataError, match=said):
        load_report(path)
    value, _ = read("cascade")
    path.write_text(json.dumps(value | {"targets": [4]}))
    with pytest.raises(DataError, match=r"scan/1 report: report: expected targets \[3\] as in findings"):
        load_report(path)


def test_each_first_kind_has_a_file():
    kinds = {json.loads(path.read_text("utf-8"))["schema"] for path in FILES.glob("*.json")}
    assert kinds == set(FIRST)
