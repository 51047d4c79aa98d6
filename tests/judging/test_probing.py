from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.judging.preparing import Prepared
from detrojan.judging.probing import check_significance, judged_by_score
from detrojan.metrics.input_range import check_input_range
from detrojan.models.classifier import Classifier

SCORES = [5.0, 5.2, 4.9, 5.1, 4.8, 5.05, 4.95, 9.0, 5.15, 4.85]


class Mean(torch.nn.Module):
    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)) * k for k in range(10)], 1)


def prepared(tested: list[int]) -> Prepared:
    model = Classifier(Mean(), (1, 4, 4))
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    truth = torch.arange(40) % 10
    check = check_input_range(model, Dataset(images))
    check = replace(check, best=check.stated, warnings=())
    return Prepared(
        images=images, truth=truth, answers=truth, how="labels", made_up=False, half=20, asked=tested,
        tested=tested, left_out=[], check=check, warnings=(),
        obstacle="", begun=time.monotonic(),
    )  # fmt: skip


def judged(tested: list[int], scores: list[float] = SCORES, significance: float = 0.05):
    labels = range(len(scores))
    return judged_by_score(
        prepared(tested), labels, torch.tensor(scores), significance=significance, what="margin"
    )


def test_the_label_with_the_abnormal_score_is_flagged_and_no_other():
    made = judged(list(range(10)))
    assert [one.label for one in made.findings if one.flagged] == [7]
    assert made.case.verdict()[0] == "backdoored"
    assert made.findings[7].p_value < 0.001
    assert all(one.size is None and one.trigger is None for one in made.findings)


def test_only_tested_labels_get_a_finding_but_all_scores_are_compared():
    made = judged([0, 7])
    assert [one.label for one in made.findings] == [0, 7]
    assert made.findings[1].p_value == judged(list(range(10))).findings[7].p_value
    assert len(made.details["scores"]) == 2


def test_without_an_abnormal_score_it_says_what_would_have_been_one():
    made = judged(list(range(10)), [*SCORES[:7], 5.3, *SCORES[8:]])
    verdict, reason = made.case.verdict()
    assert verdict == "no evidence"
    needed = made.details["detectable_from"]
    assert f"{needed:.3g} or more would have been one" in reason
    above = judged(list(range(11)), [*SCORES[:7], 5.3, *SCORES[8:], needed * 1.01])
    assert above.findings[10].flagged


def test_few_labels_say_nothing():
    made = judged([0, 1, 2, 3], [1.0, 1.1, 0.9, 50.0])
    assert made.case.verdict()[0] == "inconclusive"
    assert not any(one.flagged for one in made.findings)


@pytest.mark.parametrize("significance", [0.0, 1.0, -0.1])
def test_a_significance_that_is_no_p_value_is_refused(significance):
    with pytest.raises(OptionError, match=r"expected significance in \(0, 1\)"):
        check_significance(significance)
