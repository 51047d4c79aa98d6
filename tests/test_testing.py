"""The assertion on models, and the pytest plugin that offers it."""

from importlib.metadata import entry_points

import numpy as np
import pytest
import torch

from blobs import KINDS
from detrojan import testing
from detrojan.errors import DataError
from detrojan.jobs.baselines import write_baseline
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.run import Run

pytest_plugins = ["pytester"]
#: images that no class stands out of
IMAGES = np.random.default_rng(1).integers(0, 255, (120, 16, 16, 1)).astype(np.uint8)


@pytest.fixture
def turned(tmp_path):
    """A network whose last layer stands out at label 4, which the scan `head_rows` takes for a backdoor."""
    model = start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run())
    with torch.no_grad():
        head = model.module(model.head)
        head.weight[4] = 3 * head.weight[4].abs() - head.weight.mean(0)
    save_model(model, tmp_path / "turned.safetensors")
    return tmp_path / "turned.safetensors"


def judge(model, **how):
    labels = np.arange(len(IMAGES)) % KINDS
    return testing.assert_no_backdoor(model, IMAGES, labels, method="head_rows", samples=100, **how)


def test_a_network_without_a_sign_passes():
    model = start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run())
    assert judge(model, inconclusive=True).verdict != "backdoored"


def test_a_backdoor_fails_with_the_report_unless_it_is_known(turned, tmp_path):
    with pytest.raises(AssertionError, match="Backdoor found: target label 4"):
        judge(turned, report=tmp_path / "scan.json")
    write_baseline(tmp_path / "known.json", [tmp_path / "scan.json"])
    found = judge(turned, baseline=tmp_path / "known.json")
    assert (found.verdict, found.report.baseline.accepted) == ("backdoored", 1)
    with pytest.raises(DataError, match="cannot read the baseline"):
        judge(turned, baseline=tmp_path / "gone.json")


def test_an_inconclusive_scan_fails_unless_it_may(turned):
    with pytest.raises(AssertionError, match="Inconclusive"):
        judge(turned, targets=[])
    assert judge(turned, targets=[], inconclusive=True).verdict == "inconclusive"


def test_pytest_offers_the_assertion_as_a_fixture(pytester, turned):
    pytester.makepyfile(
        f"""
        import numpy as np

        def test_delivered(assert_no_backdoor):
            images = np.random.default_rng(1).integers(0, 255, (120, 16, 16, 1)).astype(np.uint8)
            assert_no_backdoor({str(turned)!r}, images, method="head_rows", samples=100)
        """
    )
    done = pytester.runpytest_inprocess("-p", "detrojan.testing", "-p", "no:cacheprovider")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*AssertionError: Backdoor found: target label 4*"])


def test_the_plugin_is_announced_to_pytest():
    found = [point.value for point in entry_points(group="pytest11") if point.name == "detrojan"]
    assert found in ([], ["detrojan.testing"])  # an installation that is older than the plugin has none
