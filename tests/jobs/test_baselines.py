"""Known findings, on made-up reports."""

import json
from datetime import date, timedelta

import pytest

from detrojan.errors import DataError, OptionError
from detrojan.findings import Finding, ScanResult
from detrojan.jobs.baselines import accept, read_baseline, write_baseline
from detrojan.models.classifier import Classifier, Origin
from detrojan.report.problems import scan_exit
from detrojan.report.report import scan_report
from detrojan.report.sentences import baseline_sentence
from detrojan.report.text import plain_text, report_text
from detrojan.run import Run
from detrojan.scans.neural_cleanse import NeuralCleanse
from detrojan.triggers.aim import Aim

TODAY = date(2026, 5, 1)


@pytest.fixture
def scanned(tmp_path):
    """Return what makes a report: of a model under a path, with flagged labels."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from detrojan.data.dataset import Dataset  # noqa: PLC0415

    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    data = Dataset(torch.zeros(2, 1, 4, 4), source="d.npz", sha256="dd" * 32)

    def make(*targets, path="nets/model.pt", sha256="ab" * 32, verdict="", seed=0, aim=None):
        model = Classifier(network, (1, 4, 4), origin=Origin(path=str(path), sha256=sha256, format="torch"))
        findings = tuple(
            Finding(label=label, flagged=label in targets, aim=aim or Aim(target=label)) for label in range(4)
        )
        result = ScanResult(
            verdict=verdict or ("backdoored" if targets else "no evidence"),
            reason="So it is.",
            findings=findings,
            passes=1,
        )
        method = NeuralCleanse()
        report = scan_report(
            result, model, data, run=Run(seed=seed), method=method, started=_now(), command=["detrojan"]
        )
        report.save(tmp_path / "scan.json")
        return report

    return make


def _now():
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime(2026, 4, 1, tzinfo=UTC)


def known(tmp_path, **how):
    write_baseline(tmp_path / "known.json", [tmp_path / "scan.json"], **how)
    return read_baseline(tmp_path / "known.json")


def test_an_accepted_finding_is_marked_and_passes_with_any_seed(scanned, tmp_path):
    assert scan_exit(scanned(2)) == 1
    kept = known(tmp_path, reason="a watermark", expires="2026-06-30")
    report = accept(scanned(2, seed=5), kept, today=TODAY)
    assert scan_exit(report) == 0
    assert report.verdict == "backdoored"
    (finding,) = report.findings
    assert (finding.accepted.reason, finding.accepted.expires) == ("a watermark", "2026-06-30")
    assert (report.baseline.accepted, report.baseline.new, report.warnings) == (1, 0, [])
    shown = " ".join(plain_text(report_text(report)).split())
    assert "1 known and accepted, 0 new. The exit code is 0." in shown
    assert "Label 2 is accepted: a watermark, until 2026-06-30." in shown


def test_another_target_counts(scanned, tmp_path):
    scanned(2)
    kept = known(tmp_path)
    report = accept(scanned(1, 2), kept, today=TODAY)
    assert [(entry.label, entry.accepted is not None) for entry in report.findings] == [(1, False), (2, True)]
    assert scan_exit(report) == 1
    report = accept(scanned(3), kept, today=TODAY)
    assert scan_exit(report) == 1
    assert len(report.baseline.absent) == 1
    assert "1 known finding of this model did not come back." in baseline_sentence(report)


def test_all_labels_of_an_all_to_all_backdoor_are_accepted_as_one(scanned, tmp_path):
    shift = Aim(offset=1)
    scanned(0, 1, 2, 3, aim=shift)
    kept = known(tmp_path)
    assert len(kept.baseline.entries) == 1
    report = accept(scanned(0, 1, 2, 3, aim=shift), kept, today=TODAY)
    assert scan_exit(report) == 0
    assert all(entry.accepted for entry in report.findings)
    assert report.baseline.verdict is None


def test_an_expired_entry_counts_again(scanned, tmp_path):
    report = scanned(2)
    kept = known(tmp_path, expires=TODAY.isoformat())
    assert scan_exit(accept(report, kept, today=TODAY)) == 0
    late = accept(report, kept, today=TODAY + timedelta(days=1))
    assert scan_exit(late) == 1
    assert late.baseline.expired == 1
    assert "was accepted until 2026-05-01, and counts again" in late.warnings[0]


@pytest.mark.parametrize(("pinned", "code"), [(False, 0), (True, 1)])
def test_another_file_of_the_name_is_warned_of_or_refused(scanned, tmp_path, pinned, code):
    scanned(2)
    kept = known(tmp_path, pinned=pinned)
    report = accept(scanned(2, sha256="cd" * 32), kept, today=TODAY)
    assert scan_exit(report) == code
    assert "was accepted for another file" in report.warnings[0]


@pytest.mark.parametrize(
    ("entry", "path", "code"),
    [
        ("nets/model.pt", "/srv/nets/model.pt", 0),
        ("./nets/model.pt", "nets/model.pt", 0),
        ("../nets/model.pt", "nets/model.pt", 0),
        ("a/model.pt", "b/model.pt", 1),
        ("model.pt", "mymodel.pt", 1),
        ("/srv/a/model.pt", "/mnt/x/a/model.pt", 0),
        ("/srv/a/model.pt", "/mnt/x/b/model.pt", 1),
        ("http://a/v2/models/signs", "http://b/v2/models/signs", 0),
    ],
)
def test_a_model_is_known_by_the_end_of_its_path(scanned, tmp_path, entry, path, code):
    scanned(2, path=entry)
    kept = known(tmp_path)
    assert scan_exit(accept(scanned(2, path=path), kept, today=TODAY)) == code


def test_a_path_below_the_baseline_is_written_relative_to_it(scanned, tmp_path):
    scanned(2, path=tmp_path / "deep" / "nets" / "model.pt")
    assert known(tmp_path).baseline.entries[0].model == "deep/nets/model.pt"


def test_an_inconclusive_scan_is_accepted_only_if_asked_for(scanned, tmp_path):
    report = scanned(verdict="inconclusive")
    assert known(tmp_path).baseline.entries == []
    assert scan_exit(report) == 3
    kept = known(tmp_path, inconclusive=True)
    accepted = accept(report, kept, today=TODAY)
    assert scan_exit(accepted) == 0
    assert accepted.baseline.verdict is not None


def test_entries_that_are_there_stay_as_they_are(scanned, tmp_path):
    scanned(2)
    known(tmp_path, reason="first")
    scanned(1, 2)
    assert write_baseline(tmp_path / "known.json", [tmp_path / "scan.json"], reason="second") == (1, 2)
    reasons = {entry.label: entry.reason for entry in read_baseline(tmp_path / "known.json").baseline.entries}
    assert reasons == {1: "second", 2: "first"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": 3}, "expected the fingerprint"),
        ({"rule": "backdoor/unheard-of"}, "expected a rule out of backdoor/targeted"),
        ({"expires": "soon"}, "expected a date as 2027-01-31, got 'soon'"),
        ({"why": "typo"}, "entries.0.why"),
    ],
)
def test_what_was_changed_by_hand_and_does_not_fit_is_refused(scanned, tmp_path, change, says):
    scanned(2)
    known(tmp_path)
    path = tmp_path / "known.json"
    held = json.loads(path.read_text())
    held["entries"][0] |= change
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match=says):
        read_baseline(path)


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"schema": "detrojan.baseline/9", "entries": []}'])
def test_what_is_no_baseline_is_refused(tmp_path, content):
    (tmp_path / "known.json").write_text(content)
    with pytest.raises(DataError, match=r"known\.json: "):
        read_baseline(tmp_path / "known.json")


def test_a_baseline_needs_reports_and_real_dates(scanned, tmp_path):
    with pytest.raises(OptionError, match="expected a scan's JSON or more, got none"):
        write_baseline(tmp_path / "known.json", [])
    scanned(2)
    with pytest.raises(OptionError, match="expected a date"):
        known(tmp_path, expires="31.1.2027")
    with pytest.raises(DataError, match="cannot read the report"):
        write_baseline(tmp_path / "known.json", [tmp_path / "gone.json"])
