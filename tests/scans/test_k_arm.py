"""K-Arm names the target and only it, is silent on the clean twin, and its bandit spends as it should."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.judging.preparing import prepare
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.k_arm import Bandit, KArm
from detrojan.search.jobs import Job
from detrojan.search.plan import Known
from detrojan.triggers.aim import Aim
from twins import TARGET

SCAN = KArm(batch_size=8, samples=400)


def test_it_names_the_target_and_only_it(twins):
    result = SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1))
    assert (result.verdict, result.targets) == ("backdoored", [TARGET])
    (finding,) = result.flagged
    assert finding.p_value < 0.02
    assert finding.size < 0.4 * result.details["usual_size"]
    images, truth = twins.train.images, twins.train.labels
    assert attack_success(twins.backdoored, finding.trigger, images, truth, TARGET) > 0.75
    assert len(set(result.details["steps"].values())) == 1, "the controls are brought level"
    assert result.passes == 8 * sum(result.details["steps"].values())
    json.dumps(result.details, allow_nan=False)


@pytest.mark.parametrize("seed", [1, 2])
def test_it_has_no_evidence_against_the_clean_twin(twins, seed):
    result = replace(SCAN, starts=1).scan(twins.clean, twins.test, run=Run(seed=seed))
    assert (result.verdict, result.targets) == ("no evidence", [])
    assert "pixels of mask would have been one" in result.reason


class Planted(nn.Module):
    """A linear network of 60 labels: one looks at four pixels alone, and is a little likely everywhere."""

    def __init__(self, target: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.flatten, self.head = nn.Flatten(), nn.Linear(64, 60)
        weight = torch.randn(60, 64, generator=random)
        weight[:, :4] = 0
        weight -= weight.mean(1, keepdim=True)
        weight[target] = 0
        weight[target, :4] = torch.tensor([40.0, -40.0, 40.0, -40.0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.zero_()
            self.head.bias[target] = 0.5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.flatten(images))
        return logits


@pytest.fixture(scope="module")
def many():
    images = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    images[:, :, 0, :4] = 0.5
    return Classifier(Planted(37), (1, 8, 8)), Dataset(images, None)


def test_of_many_labels_those_that_are_seldom_likely_are_put_aside(many):
    model, data = many
    result = KArm(arms=12, starts=1).scan(model, data, run=Run())
    assert result.targets == [37]
    assert "60 labels tested, 38 of them by the screening alone" in result.reason
    kept = result.details["screened"]
    assert len(kept) == 12 + 10
    assert kept["37"] > 0.9
    assert result.details["put_aside"] == 60 - 22
    assert len(result.findings) == 60
    aside = [finding for finding in result.findings if str(finding.label) not in kept]
    assert len(aside) == 38
    assert all(f.size is None and f.p_value is None and not f.flagged for f in aside)
    steps, controls = result.details["steps"], result.details["controls"]
    assert 37 not in controls
    assert {steps[str(label)] for label in controls} == {max(steps.values())}
    assert min(steps.values()) < max(steps.values()), "arms without promise are given up"


def test_the_screening_leaves_the_label_s_own_images_out(many):
    model, data = many
    ready = prepare(model, data, None, 300, Run())
    shares = KArm(top=1 / 60).screen(model, ready)
    images, truth = ready.search
    assert torch.equal(truth, model.answers(images))
    assert set(shares.values()) == {0.0}, "only a label's own images have it as the first of all"
    assert set(KArm(top=1.0).screen(model, ready).values()) == {1.0}


def known(**changes) -> Known:
    facts = {
        "step": 10,
        "spent": torch.full((4,), 10),
        "first": torch.tensor([50.0, 50.0, 60.0, math.inf]),
        "best": torch.tensor([40.0, 20.0, 60.0, math.inf]),
        "chosen": (0, 1, 2, 3),
    }
    return Known(**(facts | changes))


def bandit(controls: set[int], **changes) -> Bandit:
    method = KArm(**({"epsilon": 0.0, "at_once": 2, "warm_up": 10, "rounds": 2, "round_steps": 3} | changes))
    return Bandit(method, [Job(Aim(target=label)) for label in range(4)], controls, 100, Run(seed=1))


def test_the_objective_is_the_fall_per_step_and_a_share_for_small_sizes():
    scores = bandit(set(), beta=0.01).scores(known())
    assert scores.tolist() == pytest.approx([0.01 + 0.025, 0.03 + 0.05, 0.01 / 0.6, 0.01])


def test_all_arms_are_warmed_up_then_each_round_takes_the_best_and_keeps_them():
    choose = bandit({0, 2})
    assert choose(known(step=9)) == [0, 1, 2, 3]
    assert choose(known(step=10)) == [0, 1]
    assert choose(known(step=11, chosen=(2, 3))) == [2, 3]
    fallen = known(step=13, best=torch.tensor([40.0, 20.0, 5.0, math.inf]))
    assert choose(fallen) == [1, 2]


def test_by_chance_any_arm_is_drawn_and_the_same_again():
    choose = bandit({0}, epsilon=1.0, at_once=1, rounds=40)
    drawn = [choose(known(step=10 + 3 * number)) for number in range(40)]
    assert {place for (place,) in drawn} == {0, 1, 2, 3}
    assert drawn == [choose(known(step=10 + 3 * number)) for number in range(40)]


def test_in_the_end_controls_and_the_smallest_arms_are_brought_level():
    choose = bandit({2}, at_once=1)
    assert choose(known(step=16, spent=torch.tensor([16, 13, 10, 10]))) == [1, 2]
    assert choose(known(step=19, spent=torch.tensor([16, 16, 13, 10]))) == [2]
    assert choose(known(step=22, spent=torch.tensor([16, 16, 16, 10]))) == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rounds": 0}, "expected arms, starts, warm_up, rounds, .* got 24, 2, 10, 0, 5, 4 and 10"),
        ({"controls": 3}, "controls of 5 or more"),
        ({"epsilon": 1.5}, r"epsilon in \[0, 1\] and beta of 0 or more, got 0.25, 1.5 and 1e-05"),
        ({"significance": 0.0}, r"significance in \(0, 1\)"),
        ({"samples": 3}, "expected 20 samples or more, got 3"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        KArm(**wrong)
