import json
import math
import os

import pytest
import torch
from pydantic import ValidationError

from detrojan.errors import DataError, InputError
from detrojan.records import plain
from detrojan.report.reading import load_report
from detrojan.report.report import measures
from detrojan.report.schema import EvaluateReport, RepairReport, ScanReport, Step

TOP = {
    "schema", "verdict", "reason", "targets", "findings", "labels_tested", "evidence", "passes",
    "criterion", "units", "seconds", "warnings", "model", "data", "run", "details",
    "advice", "taxonomy", "baseline",
}  # fmt: skip


def changed(report, tmp_path, **values):
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(json.loads(report.to_json()) | values))
    return path


def test_a_scan_report_has_the_promised_keys_and_comes_back_equal(scan, tmp_path):
    value = json.loads(scan.to_json())
    assert set(value) == TOP
    assert value["schema"] == "detrojan.scan/2"
    assert list(value)[:2] == ["schema", "verdict"]
    assert set(value["findings"][0]) == {
        "label", "class_name", "aim", "anomaly_index", "p_value", "size", "unit", "attack_success",
        "severity", "confidence", "trigger", "accepted",
    }  # fmt: skip
    assert load_report(scan.save(tmp_path / "new" / "folder" / "scan.json")) == scan


def test_a_repair_report_comes_back_equal(repair, tmp_path):
    loaded = load_report(repair.save(tmp_path / "repair.json"))
    assert isinstance(loaded, RepairReport)
    assert loaded == repair
    value = json.loads(repair.to_json())
    assert {"before", "after", "steps", "output", "verification"} <= set(value)
    assert value["after"]["attack_success"] == 0.006
    assert value["before"]["per_target"] == [{"label": 3, "attack_success": 1.0, "images": 810}]


def test_an_evaluation_holds_its_measures_at_the_top(scan, tmp_path):
    shared = {name: getattr(scan, name) for name in ("model", "data", "run", "seconds", "warnings")}
    report = EvaluateReport(**dict(measures(clean_accuracy=0.9, attack_success={1: 0.5, 4: 0.7})), **shared)
    value = json.loads(report.to_json())
    assert value["clean_accuracy"] == 0.9
    assert value["attack_success"] == pytest.approx(0.6)
    assert value["agreement"] is None
    assert load_report(report.save(tmp_path / "e.json")) == report


def test_numbers_that_are_not_finite_become_null(scan):
    report = scan.model_copy(update={"evidence": [scan.evidence[0].model_copy()]})
    entry = type(scan.evidence[0])(
        label=1,
        anomaly_index=math.inf,
        p_value=None,
        size=math.nan,
        unit=None,
        attack_success=math.nan,
        flagged=False,
    )
    assert (entry.anomaly_index, entry.size, entry.attack_success) == (None, None, None)
    assert report.run.hyper_parameters["cost"] is None
    assert "NaN" not in scan.to_json()
    assert "Infinity" not in scan.to_json()


def test_plain_values_hold_only_what_json_can():
    given = {
        1: (1, math.nan),
        "t": torch.tensor([0.5, math.inf]),
        "text": "a\udc80",
        "path": os.sep,
        "yes": True,
    }
    assert plain(given) == {"1": [1, None], "t": [0.5, None], "text": "a\\udc80", "path": os.sep, "yes": True}
    json.dumps(plain(given), allow_nan=False).encode()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"extra": 1}, "extra: there is no such key"),
        ({"verdict": "clean"}, "verdict: Input should be 'backdoored', 'no evidence' or 'inconclusive'"),
        ({"targets": [4]}, r"expected targets \[3\] as in findings, got \[4\]"),
        ({"labels_tested": [1]}, "expected one entry of evidence for each of labels_tested"),
        (
            {"verdict": "no evidence"},
            r'expected no findings under the verdict "no evidence", got labels \[3\]',
        ),
        ({"units": []}, r"expected a unit out of \[\], as in units, got 'pixels'"),
        ({"passes": -1}, "passes: Input should be greater than or equal to 0"),
        ({"seconds": "72"}, "seconds: Input should be a valid number"),
        (
            {"schema": "detrojan.scan/9"},
            "expected a report with a schema of detrojan.scan/2.*'detrojan.scan/9'",
        ),
        ({"schema": ["x"]}, "expected a report with a schema of"),
    ],
)
def test_a_report_that_breaks_the_schema_is_refused_by_name(scan, tmp_path, values, text):
    with pytest.raises(DataError, match=text):
        load_report(changed(scan, tmp_path, **values))


def test_a_missing_key_is_named(scan, tmp_path):
    value = json.loads(scan.to_json())
    del value["model"]["sha256"]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    with pytest.raises(
        DataError, match=r"r\.json: not a valid detrojan\.scan/2 report: model\.sha256: Field required"
    ):
        load_report(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected a report in JSON"),
        (b"\xff\xfe", "expected a report in JSON"),
        (b"[" * 100_000, "expected a report in JSON"),
        (b"[1]", "expected a report, a JSON object, got list"),
        (b'{"schema": "detrojan.scan/1", "seconds": NaN}', "it holds NaN, which is not JSON"),
    ],
)
def test_files_that_are_no_report_are_refused(tmp_path, content, text):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text):
        load_report(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the report .*gone\.json: No such file"):
        load_report(tmp_path / "gone.json")


def test_curves_of_unequal_length_are_refused():
    with pytest.raises(ValidationError, match="expected curves of one length, got a 1, b 2"):
        Step(method="m", summary="", curves={"a": [1.0], "b": [1.0, 2.0]}, details={})


def test_reports_never_change(scan):
    with pytest.raises(ValidationError, match="frozen"):
        scan.verdict = "no evidence"


def test_saving_replaces_whole_files_and_leaves_no_scraps(scan, tmp_path):
    path = tmp_path / "scan.json"
    path.write_text("old")
    scan.save(path)
    assert isinstance(load_report(path), ScanReport)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.json"]


def test_saving_to_a_folder_is_refused(scan, tmp_path):
    with pytest.raises(InputError, match="expected a file to write the report to, got the folder"):
        scan.save(tmp_path)


def test_saving_below_a_file_is_refused(scan, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write the report"):
        scan.save(tmp_path / "file" / "scan.json")
