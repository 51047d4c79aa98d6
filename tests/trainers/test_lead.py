from __future__ import annotations

import pytest
import torch

from detrojan.findings import RepairStep
from detrojan.trainers.lead import DOUBTFUL, LOWEST, doubts, lead

LABELS = torch.arange(400) % 4


def losses_of(start: float) -> torch.Tensor:
    """Losses of 100 samples of each of four labels: start, twice that, three times that and so on."""
    return start * (1 + torch.arange(400) // 4).float()


def test_the_lead_is_that_of_nine_in_ten_isolated_over_the_easiest_of_another_label():
    found = losses_of(0.1)
    poison = (LABELS == 1).nonzero().flatten()[50:90]
    found[poison] = 1e-3
    # a tenth of the samples is isolated: of other labels the first tenth counts, up to a loss of 1.09
    assert lead(found, LABELS, poison) == pytest.approx(1090, rel=1e-3)
    # a tenth of them may be clean, but not a fifth
    others = (LABELS == 2).nonzero().flatten()
    assert lead(found, LABELS, torch.cat([poison[:37], others[60:63]])) == pytest.approx(1090, rel=1e-3)
    assert lead(found, LABELS, torch.cat([poison[:32], others[60:68]])) < 1


def test_among_clean_samples_nothing_leads():
    found = losses_of(0.1)
    found[LABELS == 3] /= 3  # an easy label
    easiest = found.argsort(stable=True)[:40]
    assert lead(found, LABELS, easiest) < 3
    # losses that single precision hardly tells apart do not lead over each other
    assert lead(found * 1e-12, LABELS, easiest) == 1.0
    assert lead(torch.full((400,), LOWEST), LABELS, easiest) == 1.0


def test_several_targets_lead_together_and_all_labels_over_none():
    found = losses_of(0.1)
    poison = torch.cat([(label == LABELS).nonzero().flatten()[50:70] for label in (0, 2)])
    found[poison] = 1e-3
    assert lead(found, LABELS, poison) > 1000
    assert lead(found, LABELS // 2 % 2, poison) == 1.0


def step(method="abl", **details) -> RepairStep:
    return RepairStep(method=method, summary="", details=details)


@pytest.mark.parametrize(
    ("led", "undone", "says"),
    [
        (DOUBTFUL, [False], []),
        (DOUBTFUL, [], []),
        (2.34, [], ["have 2.3 times its loss, and beside poison 5 times or more"]),
        (1e4, [True, True], ["so nothing was: a backdoor"]),
        (1e4, [True, False], ["look at those that were unlearned instead"]),
        (0.5, [True, True], ["have 0.5 times its loss", "so nothing was: a backdoor"]),
    ],
)
def test_what_is_doubtful_is_said(led, undone, says):
    steps = [step(lead=led), step(), *(step(undone=value) for value in undone)]
    found = doubts(steps)
    assert len(found) == len(says)
    assert all(text in sentence for text, sentence in zip(says, found, strict=True))
    # what would have been unlearned beyond that does not matter
    assert doubts([*steps, step("abl further unlearning", undone=True)]) == found
