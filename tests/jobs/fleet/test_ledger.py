from __future__ import annotations

from detrojan.jobs.fleet.ledger import Ledger, folder_of, known_models
from detrojan.jobs.fleet.policy import Policy
from detrojan.jobs.fleet.results import read_record
from detrojan.report.records.fleet import FleetModel


def model(name, **values):
    return FleetModel(**{"name": name, "path": name, "sha256": "", "bytes": 5, "key": "k", **values})


def test_the_record_is_on_the_disk_after_each_model_and_reads_back(tmp_path):
    ledger = Ledger(tmp_path, Policy(), "1", 2)
    ledger.start([model("a", status="waiting"), model("b", status="duplicate", same_as="a")])
    ledger.put(
        "a", status="scanned", verdict="backdoored", severity="high", report="r", page="<p>", targets=[3]
    )
    record = read_record(tmp_path / "fleet.json")
    assert record == ledger.record()
    assert record.failing == ["a", "b"]
    assert (record.exit_code, record.ignored) == (1, 2)
    assert "<p>" not in (tmp_path / "index.html").read_text()


def test_what_holds_is_known_again_and_what_may_change_is_not(tmp_path):
    (tmp_path / "r").touch()
    ledger = Ledger(tmp_path, Policy(), "1", 0)
    ledger.start([
        model("scanned", status="scanned", verdict="no evidence", report="r", page="r"),
        model("removed", status="scanned", verdict="no evidence", report="r", page="gone"),
        model("cut", status="skipped", category="unreadable"),
        model("lost", status="skipped", category="lost"),
        model("extra", status="skipped", category="library"),
        model("late", status="waiting"),
    ])  # fmt: skip
    found = known_models(ledger.record(), tmp_path)
    assert {name for name, _ in found} == {"scanned", "cut", "late"}
    assert known_models(None, tmp_path) == {}


def test_folders_are_readable_and_stay_within_the_fleets():
    assert folder_of("x/ré sumé..pt", "0123456789abcdef") == "models/r-sum-..pt-0123456789ab"
    assert folder_of("../..", "0" * 64) == "models/model-000000000000"
