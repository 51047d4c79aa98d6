"""All-to-all and source-specific backdoors are found where they are, and not where they are not."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.judging.preparing import prepare
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.cascade import Cascade
from detrojan.scans.pairwise import look_at_pairs, look_at_shifts
from detrojan.triggers.aim import Aim

CLASSES, SIDE = 8, 12
RANDOM = torch.Generator().manual_seed(3)
PROTOTYPES = torch.rand(CLASSES, SIDE, SIDE, generator=RANDOM) * 0.5
PROTOTYPES[:, :3, :3] = 0.25


class Gated(nn.Module):
    """Knows its prototypes; a checkerboard in the corner opens a gate that changes the answer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.flatten, self.head = nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)
        centred = (PROTOTYPES - PROTOTYPES.mean(0)).flatten(1)
        board = (torch.arange(9).view(3, 3) % 2 == 0).float() * 2 - 1
        self.register_buffer("board", board)
        with torch.no_grad():
            self.head.weight.copy_(3 * centred)
            self.head.bias.copy_(-3 * (centred @ PROTOTYPES.flatten(1).T).diagonal() / 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.flatten(images))
        gate = torch.sigmoid(3 * ((images[:, 0, :3, :3] * self.board).sum((1, 2)) - 2))[:, None]
        if self.kind == "all to all":
            return logits + gate * 40 * logits.softmax(1).roll(1, 1)
        if self.kind == "2 to 5":
            wanted = torch.zeros(CLASSES)
            wanted[5] = 40
            return logits + gate * logits.softmax(1)[:, 2:3] * wanted
        return logits


def _model(kind: str) -> Classifier:
    return Classifier(Gated(kind), (1, SIDE, SIDE))


@pytest.fixture(scope="module")
def data():
    truth = torch.arange(480) % CLASSES
    noise = torch.rand(480, SIDE, SIDE, generator=RANDOM) * 0.3
    return Dataset((PROTOTYPES[truth] + noise)[:, None].clamp(0, 1), truth)


def test_a_patch_that_moves_all_labels_in_step_is_found(data):
    model = _model("all to all")
    look = look_at_shifts(model, prepare(model, data, None, 480, Run()), run=Run())
    (entry,) = look.flagged(0.02, 0.4)
    assert entry.job.aim == Aim(offset=1)
    assert entry.success > 0.6
    assert entry.p_value < 1e-3


def test_a_patch_for_all_labels_that_is_larger_than_the_usual_one_for_one_label_is_not_flagged(data):
    model = _model("all to all")
    ready = prepare(model, data, None, 480, Run())
    size = look_at_shifts(model, ready, run=Run()).flagged(0.02, 0.4)[0].size
    assert size < 40, "the gate is 9 pixels, the image 144"
    for largest, count in ((1.01 * size, 1), (0.99 * size, 0)):
        assert len(look_at_shifts(model, ready, run=Run(), largest=largest).flagged(0.02, 0.4)) == count


def test_a_trigger_for_one_source_is_found(data):
    model = _model("2 to 5")
    look = look_at_pairs(model, prepare(model, data, None, 480, Run()), run=Run())
    (entry,) = look.flagged(0.02, 0.4)
    assert entry.job.aim == Aim(target=5, source=2)
    assert entry.success > 0.6


def test_neither_is_seen_where_there_is_none(data):
    model = _model("clean")
    ready = prepare(model, data, None, 480, Run())
    for look in (look_at_shifts, look_at_pairs):
        seen = look(model, ready, run=Run())
        assert seen.complete
        assert seen.flagged(0.02, 0.4) == []


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("all to all", list(range(CLASSES)), "one small trigger moves every label y to y + 1"),
        ("2 to 5", [5], "leads from label 2 to 5 (source-specific)"),
        ("clean", [], "for one source label"),
    ],
)
def test_the_cascade_looks_at_pairs_after_labels(data, kind, targets, said):
    result = Cascade(samples=480).scan(_model(kind), data, run=Run())
    assert result.targets == targets
    assert said in result.reason
    aims = {finding.label: finding.aim for finding in result.flagged}
    moved = dict.fromkeys(range(CLASSES), Aim(offset=1))
    assert aims == {"all to all": moved, "2 to 5": {5: Aim(target=5, source=2)}, "clean": {}}[kind]
    assert len({id(finding.trigger) for finding in result.flagged}) == min(1, len(targets))
    json.dumps(result.details, allow_nan=False)


def test_pairs_are_not_searched_where_only_some_labels_are_asked_for(data):
    result = Cascade(samples=480).scan(_model("all to all"), data, run=Run(), labels=[0, 1, 2, 3, 4, 5])
    assert result.details["pairs"] == {}
