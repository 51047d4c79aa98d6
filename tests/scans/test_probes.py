from __future__ import annotations

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.judging.preparing import prepare
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.probes import SECOND_LOOK, probe_scores

CLASSES, TARGET = 60, 17


def network(target: int) -> Classifier:
    """Return a linear network, in which a few pixels lead to one label."""
    random = torch.Generator().manual_seed(2)
    head = nn.Linear(64, CLASSES)
    weight = torch.randn(CLASSES, 64, generator=random)
    weight -= weight.mean(1, keepdim=True)
    weight[target] *= 0.3
    weight[target, :4] = 20.0
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()
        head.bias[target] = -40.0
    return Classifier(nn.Sequential(nn.Flatten(), head), (1, 8, 8))


def scores(stopped: bool = False):
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    model, run = network(TARGET), Run()
    ready = prepare(model, Dataset(images, None), None, 200, run)
    return ready.tested, probe_scores(model, ready, run=run, stop=lambda: stopped)


def test_every_probe_scores_every_label_and_the_rows_name_the_target():
    labels, probes = scores()
    assert labels == list(range(CLASSES))
    assert not probes.skipped
    assert {len(values) for values in probes.scores.values()} == {CLASSES}
    for name in ("screening", SECOND_LOOK, "head_rows"):
        assert int(probes.scores[name].argmax()) == TARGET, name


def test_the_second_look_is_for_the_best_of_the_screening():
    _, probes = scores()
    seen = probes.scores[SECOND_LOOK].isfinite()
    assert int(seen.sum()) == round(0.15 * CLASSES)
    assert float(probes.scores["screening"][seen].min()) >= float(probes.scores["screening"][~seen].max())


def test_when_the_time_is_up_what_needs_no_passes_is_known_still():
    _, probes = scores(stopped=True)
    assert probes.passes == 0
    assert "attractor" not in probes.scores
    assert int(probes.scores["head_rows"].argmax()) == TARGET
