from __future__ import annotations

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.run import Run
from detrojan.scans.mm_bd import MMBD
from twins import TARGET


@pytest.mark.parametrize("seed", [1, 2])
def test_it_names_the_target_and_only_it(twins, seed):
    result = MMBD().scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=seed))
    assert (result.verdict, result.targets) == ("backdoored", [TARGET])
    (finding,) = result.flagged
    assert finding.anomaly_index > 1.5
    assert finding.attack_success is None
    assert result.passes == 8 * 8 * 61


@pytest.mark.parametrize("seed", [1, 2])
def test_it_has_no_evidence_against_the_clean_twin(twins, seed):
    result = MMBD().scan(twins.clean, twins.test, run=Run(seed=seed))
    assert (result.verdict, result.targets) == ("no evidence", [])
    assert result.reason.startswith("no label has an abnormally high margin over the other labels (8 labels")


def test_the_margins_do_not_depend_on_the_data(twins):
    faint = Dataset(0.5 + 0.5 * (twins.test.images - 0.5))
    scan = MMBD(starts=2, steps=10)
    one = scan.scan(twins.backdoored, twins.test, run=Run(seed=1)).details["scores"]
    other = scan.scan(twins.backdoored, faint, run=Run(seed=1)).details["scores"]
    assert one == other


def test_too_few_labels_are_inconclusive(twins):
    result = MMBD(starts=1, steps=5).scan(twins.backdoored, twins.test, run=Run(), labels=[1, TARGET])
    assert result.verdict == "inconclusive"
    assert result.reason == "2 labels tested; 5 or more are needed to say what is usual"
    assert torch.tensor([f.p_value for f in result.findings]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"starts": 0}, "expected starts and steps of 1 or more, got 0 and 60"),
        ({"step_size": 0.0}, r"expected a step_size in \(0, 1\], got 0"),
        ({"significance": 1.0}, r"expected significance in \(0, 1\), got 1"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        MMBD(**wrong)
