"""A pair with a backdoor is ahead of all others, or stands out; likeness goes both ways and is taken out."""

from __future__ import annotations

import pytest
import torch

from detrojan.judging.policy import POLICY
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.pair_screen import PairScreen, residuals, screen_pairs
from detrojan.search.jobs import Job
from detrojan.triggers.aim import Aim

PAIRS = [Job(Aim(target=t, source=s)) for s in range(6) for t in range(6) if s != t]


def test_sources_targets_and_likeness_are_taken_out():
    random = torch.Generator().manual_seed(0)
    rows, columns = torch.rand(6, generator=random) * 9, torch.rand(6, generator=random) * 9
    values = {job: float(rows[job.aim.source or 0] + columns[job.target]) for job in PAIRS}
    backdoor, alike = (2, 5), [(0, 1), (1, 0)]
    for source, target in [backdoor, *alike]:
        values[Job(Aim(target=target, source=source))] -= 5.0
    left = {(job.aim.source, job.target): value for job, value in residuals(values).items()}
    assert min(left, key=left.__getitem__) == backdoor
    assert left[backdoor] < -3
    assert all(left[pair] > 0.6 * left[backdoor] for pair in alike)
    others = [abs(value) for pair, value in left.items() if pair not in {backdoor, *alike}]
    assert sorted(others)[len(others) // 2] < 0.5 < torch.tensor(list(values.values())).std()


@pytest.mark.parametrize(
    ("lead", "deviation", "complete", "silent"),
    [
        (0.0, 0.0, True, True),
        (POLICY.pair_lead, 0.0, True, False),
        (0.0, POLICY.pair_deviation, True, False),
        (0.0, 0.0, False, False),
    ],
)
def test_it_is_silent_only_where_all_pairs_were_seen_and_none_stands_out(lead, deviation, complete, silent):
    assert PairScreen(lead=lead, deviation=deviation, passes=1, complete=complete).silent == silent


class OneWay(torch.nn.Module):
    """Answers by the brightest of six pixels; a seventh one leads from label 2 to 5."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.flatten(1)
        logits: torch.Tensor = 20 * pixels[:, :6]
        gate = 200 * pixels[:, 6:7] * logits.softmax(1)[:, 2:3]
        return logits + gate * torch.eye(6)[5]


def test_a_backdoor_of_one_source_leads_all_other_pairs():
    truth = torch.arange(120) % 6
    images = torch.rand(120, 1, 3, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    images.view(120, 9)[torch.arange(120), truth] = 1.0
    images.view(120, 9)[:, 6] = 0.0
    model = Classifier(OneWay(), (1, 3, 3))
    seen = screen_pairs(model, images, truth, PAIRS, run=Run())
    assert seen.lead > 2 * POLICY.pair_lead
    assert not seen.silent
    assert seen.passes == len(PAIRS) * POLICY.pair_screen_steps * POLICY.pair_screen_images
    assert screen_pairs(model, images, truth, PAIRS, run=Run(), stop=lambda: True).complete is False
