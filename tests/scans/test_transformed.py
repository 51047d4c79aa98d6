"""A label that a faint warp or filter reaches by far the most often is flagged; usual ones are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.judging.middle import Middle
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import prepare
from detrojan.judging.verdict import often
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.transformed import Transformed, Transforms, look_at_transforms
from detrojan.search.transforms import TRANSFORMS
from detrojan.triggers.filtered import FilterTrigger
from detrojan.triggers.warp import WarpTrigger

SHAPE, TARGET = (3, 12, 12), 4
#: a fine pattern that all images have
WEAVE = 0.1 * torch.ones(12, 12)
WEAVE[::2, ::2] = WEAVE[1::2, 1::2] = -0.1


class Cells(torch.nn.Module):
    """Answers the brightest of nine cells; and one label where red is ahead of blue, or the weave is gone."""

    def __init__(self, gate: str = "") -> None:
        super().__init__()
        self.gate = gate
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.scale * functional.avg_pool2d(images.mean(1, keepdim=True), 4).flatten(1)
        if not self.gate:
            return logits
        red, _, blue = images.mean((2, 3)).T
        weave = (images * WEAVE).mean((1, 2, 3)) / 0.01
        sign = 20 * (red - blue) - 0.3 if self.gate == "tint" else 1 - 1.2 * weave
        return logits + 30 * sign.clamp(min=0)[:, None] * torch.eye(9)[TARGET]


def ready_for(gate, count=180):
    random = torch.Generator().manual_seed(0)
    truth = torch.arange(count) % 9
    grey = torch.rand(count, 1, 3, 3, generator=random) * 0.15 + 0.4
    grey.view(count, 9)[torch.arange(count), truth] += 0.25
    grey = functional.interpolate(grey, scale_factor=4, mode="nearest")
    images = (grey + WEAVE + 0.02 * torch.randn(count, *SHAPE, generator=random)).clamp(0, 1)
    model = Classifier(Cells(gate), SHAPE)
    return model, prepare(model, Dataset(images=images, labels=truth), None, count, Run())


def look(gate, **how):
    model, ready = ready_for(gate)
    return look_at_transforms(model, ready, ready.tested, significance=0.02, confirm=0.75, run=Run(), **how)


@pytest.mark.parametrize(("gate", "kind"), [("tint", "filter"), ("weave", "warp")])
def test_the_label_that_a_faint_change_reaches_is_flagged(gate, kind):
    seen = look(gate, kinds=[kind])
    (flagged,) = seen.flagged(0.02, 0.75)
    assert (flagged.label, flagged.transform.name) == (TARGET, kind)
    assert flagged.success > 0.9
    assert flagged.p_value < 0.005
    others = [entry for entry in seen.evidence if entry.label != TARGET]
    assert min(entry.p_value for entry in others) > 0.2
    assert seen.passes >= 9 * 24 * 12


def test_without_a_backdoor_none_is_flagged():
    seen = look("")
    assert seen.complete
    assert len(seen.evidence) == 2 * 9
    assert seen.flagged(0.02, 0.75) == []
    assert min(entry.p_value for entry in seen.evidence) > 0.2


def test_where_the_time_is_up_nothing_is_said():
    seen = look("tint", stop=lambda: True)
    assert (seen.evidence, seen.passes, seen.complete) == ((), 0, False)


def test_where_the_time_is_up_later_what_was_found_is_kept():
    asked = iter(range(1000))
    seen = look("tint", kinds=["filter", "warp"], stop=lambda: next(asked) >= POLICY.transform_steps)
    assert [entry.label for entry in seen.flagged(0.02, 0.75)] == [TARGET]
    assert {entry.transform.name for entry in seen.evidence} == {"filter"}
    assert not seen.complete


def test_what_was_interrupted_is_not_searched_again(tmp_path):
    model, ready = ready_for("tint", 60)
    how = {"significance": 0.02, "confirm": 0.75, "kinds": ["filter"]}
    first = look_at_transforms(model, ready, ready.tested, run=Run(checkpoint=tmp_path), **how)
    again = look_at_transforms(
        model, ready, ready.tested, run=Run(checkpoint=tmp_path), **how, stop=lambda: True
    )
    assert [entry.facts() for entry in again.evidence] == [entry.facts() for entry in first.evidence]


def entry(label, kind="warp", p_value=0.001, success=0.9):
    trigger = WarpTrigger(torch.ones(2, 8, 8))
    return Transformed(
        label=label,
        transform=TRANSFORMS[kind],
        score=0.5,
        p_value=p_value,
        index=4.0,
        success=success,
        size=1.4,
        trigger=trigger,
    )


def test_a_flagged_label_is_rare_works_and_is_named_once():
    seen = Transforms(
        evidence=(entry(3, "filter", 1e-5), entry(3, "warp"), entry(1, success=0.5), entry(2, p_value=0.03)),
        passes=1,
        complete=True,
    )
    (flagged,) = seen.flagged(0.02, 0.75)
    assert (flagged.label, flagged.transform.name) == (3, "filter")
    told = often([flagged.what, flagged.what]).of([3])
    assert told == "label 3 answers a faint change by a filter far more often than usual labels do"
    found = entry(3).finding()
    assert (found.label, found.flagged, found.size, found.severity) == (3, True, 1.4, "high")
    assert found.unit is TRANSFORMS["warp"].unit


def test_changes_of_parts_become_those_of_whole_images():
    model, ready = ready_for("tint", 60)
    middle = Middle(model=model, whole=model, side=12, alike=1.0)
    parts = [part[0] for part in (torch.ones(1, 2, 3, 3, 3), torch.ones(1, 2), torch.ones(1, 3, 2, 3, 3))]
    bank = FilterTrigger(SHAPE, [*parts, torch.ones(3)], 0.02)
    seen = Transforms(evidence=(replace(entry(TARGET), trigger=bank),), passes=1, complete=True)
    (placed,) = seen.placed(middle, ready).evidence
    assert 0 <= placed.success <= 1
    assert placed.trigger.shape == SHAPE
