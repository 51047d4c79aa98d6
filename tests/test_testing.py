"""The assertion on models, and the pytest plugin that offers it."""

from datetime import UTC, datetime
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch

from blobs import KINDS
from detrojan import testing
from detrojan.calls.results import ScanOutcome
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.findings import Finding, ScanResult
from detrojan.jobs.baselines import write_baseline
from detrojan.learning.fresh import start_net
from detrojan.models.classifier import Origin
from detrojan.models.writing import save_model
from detrojan.report.report import scan_report
from detrojan.run import Run
from detrojan.scans.head_rows import HeadRows

pytest_plugins = ["pytester"]
#: images without any class, for a network that always answers the same
IMAGES = np.random.default_rng(1).integers(0, 255, (60, 16, 16, 1)).astype(np.uint8)


@pytest.fixture
def answered(monkeypatch):
    """Let every scan come to a made-up verdict."""

    def answer(verdict, *targets):
        model = start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run())
        model.origin = Origin(path="nets/m.pt", sha256="ab" * 32, format="torch")
        findings = tuple(Finding(label=label, flagged=label in targets) for label in range(KINDS))
        result = ScanResult(verdict=verdict, reason="So it is.", findings=findings, passes=1)
        data = Dataset(torch.zeros(2, 1, 16, 16))
        report = scan_report(
            result, model, data, run=Run(), method=HeadRows(), started=datetime(2026, 4, 1, tzinfo=UTC)
        )
        outcome = ScanOutcome(report=report, result=result)
        monkeypatch.setattr("detrojan.calls.verbs.scan", lambda *_given, **_how: outcome)

    return answer


@pytest.fixture
def constant(tmp_path):
    """The file of a network that always answers the same, so that a scan is inconclusive at once."""
    model = start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run())
    with torch.no_grad():
        model.module(model.head).bias[2] += 1e4
    save_model(model, tmp_path / "constant.safetensors")
    return tmp_path / "constant.safetensors"


@pytest.mark.parametrize(
    ("verdict", "targets", "how", "says"),
    [
        ("no evidence", (), {}, ""),
        ("backdoored", (4,), {}, "Backdoor found: target label 4"),
        ("backdoored", (4,), {"inconclusive": True}, "Backdoor found: target label 4"),
        ("inconclusive", (), {}, "Inconclusive: "),
        ("inconclusive", (), {"inconclusive": True}, ""),
    ],
)
def test_what_passes_and_what_fails(answered, verdict, targets, how, says):
    answered(verdict, *targets)
    if says:
        with pytest.raises(AssertionError, match=says):
            testing.assert_no_backdoor("m.pt", "images", **how)
    else:
        assert testing.assert_no_backdoor("m.pt", "images", **how).verdict == verdict


def test_a_known_finding_passes_and_the_report_is_kept(answered, tmp_path):
    answered("backdoored", 4)
    with pytest.raises(AssertionError):
        testing.assert_no_backdoor("m.pt", "images", report=tmp_path / "scan.json")
    write_baseline(tmp_path / "known.json", [tmp_path / "scan.json"])
    found = testing.assert_no_backdoor("m.pt", "images", baseline=tmp_path / "known.json")
    assert (found.verdict, found.report.baseline.accepted) == ("backdoored", 1)
    answered("backdoored", 3, 4)
    with pytest.raises(AssertionError, match=r"1\s+known\s+and\s+accepted,\s+1\s+new"):
        testing.assert_no_backdoor("m.pt", "images", baseline=tmp_path / "known.json")
    with pytest.raises(DataError, match="cannot read the baseline"):
        testing.assert_no_backdoor("m.pt", "images", baseline=tmp_path / "gone.json")


def test_a_model_is_really_scanned(constant):
    with pytest.raises(AssertionError, match="The network gives label 2 for each of 60 images"):
        testing.assert_no_backdoor(constant, IMAGES, method="head_rows", samples=60)


def test_pytest_offers_the_assertion_as_a_fixture(pytester, constant):
    pytester.makepyfile(
        f"""
        import numpy as np

        IMAGES = np.random.default_rng(1).integers(0, 255, (60, 16, 16, 1)).astype(np.uint8)

        def test_delivered(assert_no_backdoor):
            assert_no_backdoor({str(constant)!r}, IMAGES, method="head_rows", samples=60)

        def test_delivered_with_patience(assert_no_backdoor):
            assert_no_backdoor({str(constant)!r}, IMAGES, method="head_rows", samples=60, inconclusive=True)
        """
    )
    announced = [point.value for point in entry_points(group="pytest11") if point.name == "detrojan"]
    assert announced in ([], ["detrojan.testing"])  # none in an installation that is older than the plugin
    given = () if announced else ("-p", "detrojan.testing")
    done = pytester.runpytest_inprocess(*given, "-p", "no:cacheprovider")
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["*AssertionError: Inconclusive: no label was tested.*"])
