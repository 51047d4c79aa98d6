"""What the methods of each room promise of their results.

Each check gets the method and one use of it; what else it asks, it finds out by further uses.
"""

from __future__ import annotations

import contextlib
import json
import math
from tempfile import TemporaryDirectory

import pytest
import torch

from contract_subjects import CLASSES, COUNT, SHAPE, flat, tiny_data, tiny_findings, tiny_model
from contracts import Used
from detrojan.attacks.base import Planted, Poisoned
from detrojan.errors import OptionError
from detrojan.filters.base import Suspects
from detrojan.findings import ScanResult
from detrojan.guards.base import Calibrated
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.repairs.base import Repaired
from detrojan.run import Run
from detrojan.trainers.base import Trained


def check_poisoned(method: Method, one: Used) -> None:
    data, made = one.data, one.result
    assert isinstance(made, Poisoned)
    assert made.data.shape == SHAPE
    assert len(made.data) >= len(data)
    assert made.data.labels is not None
    assert made.indices.dtype == made.which.dtype == torch.int64
    assert made.indices.shape == made.which.shape
    assert len(made.indices) > 0, "nothing was poisoned"
    assert torch.equal(made.indices, made.indices.unique()), "expected ascending positions"
    assert 0 <= int(made.indices.min()) <= int(made.indices.max()) < len(made.data)
    assert 0 <= int(made.which.min()) <= int(made.which.max()) < len(made.backdoors)
    assert made.covers.dtype == torch.int64
    assert torch.equal(made.covers, made.covers.unique()), "expected ascending positions"
    assert not torch.isin(made.covers, made.indices).any(), "covers are no poison"
    if len(made.data) == len(data):
        clean = torch.ones(len(data), dtype=torch.bool)
        clean[made.indices] = False
        assert method.clean_label == torch.equal(made.data.labels, data.labels)
        assert torch.equal(made.data.labels[made.covers], data.labels[made.covers]), "a cover changed label"
        clean[made.covers] = False
        assert torch.equal(made.data.images[clean], data.images[clean]), "clean samples were changed"
        changed = (made.data.images != data.images).flatten(1).any(1)
        assert changed[made.indices].all(), "a poisoned sample is as it was"
        assert torch.equal(made.data.labels[clean], data.labels[clean]), "clean labels were changed"
    for backdoor in made.backdoors:
        stamped = backdoor.trigger.stamp(data.images)
        assert stamped.shape == data.images.shape
        assert 0 <= float(stamped.min()) <= float(stamped.max()) <= 1


def shared_tensors(one: Classifier, other: Classifier) -> set[int]:
    """Return where the memory of two models is the same."""
    mine, theirs = (
        {tensor.data_ptr() for tensor in model.network.state_dict().values() if tensor.numel()}
        for model in (one, other)
    )
    return mine & theirs


def check_planted(method: Method, one: Used) -> None:
    model, data, made = one.model, one.data, one.result
    assert isinstance(made, Planted)
    assert not shared_tensors(model, made.model), "the attacked model shares tensors with the one given"
    assert made.model.all_logits(data.images).shape == (COUNT, CLASSES)
    assert made.backdoors
    for backdoor in made.backdoors:
        stamped = backdoor.trigger.stamp(data.images)
        assert stamped.shape == data.images.shape
        assert 0 <= float(stamped.min()) <= float(stamped.max()) <= 1


def check_scanned(method: Method, one: Used) -> None:
    data = tiny_data().with_labels(None)
    unlabelled = method.scan(tiny_model(), data, run=Run(seed=3), labels=[2, 0])
    for result, labels in ((one.result, [0, 1, 2]), (unlabelled, [0, 2])):
        assert isinstance(result, ScanResult)
        assert result.verdict in {"backdoored", "no evidence", "inconclusive"}
        assert result.reason
        assert (result.verdict == "backdoored") == bool(result.targets)
        assert [finding.label for finding in result.findings] == labels
        assert result.passes >= 0
        json.dumps(result.details)
        for finding in result.findings:
            assert finding.anomaly_index is None or finding.anomaly_index >= 0
            unknown = finding.trigger is None and finding.attack_success is None
            assert unknown or 0 <= finding.attack_success <= 1
            assert finding.p_value is None or 0 <= finding.p_value <= 1
            assert (finding.size is None) == (finding.unit is None)
            assert finding.size is None or 0 <= finding.size <= SHAPE[1] * SHAPE[2]
            if finding.trigger is not None:
                assert finding.trigger.stamp(data.images).shape == data.images.shape


def check_repaired(method: Method, one: Used) -> None:
    other, data = tiny_model(), tiny_data().with_labels(None)
    unlabelled = method.repair(other, data, tiny_findings(), run=Run(seed=3))
    for model, made in ((one.model, one.result), (other, unlabelled)):
        assert isinstance(made, Repaired)
        assert not shared_tensors(model, made.model), "the repaired model shares tensors with the one given"
        logits = made.model.all_logits(data.images)
        assert logits.shape in {(COUNT, CLASSES), (COUNT, CLASSES + 1)}
        assert bool(logits.isfinite().all())
        assert made.steps
        for step in made.steps:
            assert step.method
            assert step.summary
            assert len({len(series) for series in step.curves.values()}) <= 1
            json.dumps([step.curves, step.details])
    needy = pytest.raises(OptionError, match="no findings")
    with needy if method.needs_triggers() else contextlib.nullcontext():
        assert method.repair(tiny_model(), tiny_data(), [], run=Run(seed=3)).steps


def check_calibrated(method: Method, one: Used) -> None:
    other, data = tiny_model(), tiny_data().with_labels(None)
    unlabelled = method.calibrate(other, data, run=Run(seed=3))
    for model, made in ((one.model, one.result), (other, unlabelled)):
        assert isinstance(made, Calibrated)
        assert made.model is model
        assert made.method == method
        assert math.isfinite(made.threshold)
        scores = made.score(data.images)
        assert scores.shape == (COUNT,)
        assert bool(scores.isfinite().all())
        assert torch.equal(made.suspicious(scores), scores >= made.threshold)
        answers = made.answers_with_class(data.images)
        assert torch.equal(answers == CLASSES, made.suspicious(scores))
        with TemporaryDirectory() as folder:
            again = load_guard(save_guard(made, folder), model)
        assert torch.equal(again.score(data.images), scores)
        assert list(flat(again)) == list(flat(made))


def check_trained(method: Method, one: Used) -> None:
    other, data = tiny_model(), tiny_data()
    watched = method.train(other, data, run=Run(seed=3), poisoned=torch.arange(5))
    for model, made, known in ((one.model, one.result, False), (other, watched, True)):
        assert isinstance(made, Trained)
        given = {tensor.data_ptr() for tensor in model.network.state_dict().values() if tensor.numel()}
        own = {tensor.data_ptr() for tensor in made.model.network.state_dict().values() if tensor.numel()}
        assert not given & own, "the trained model shares tensors with the one that was given"
        assert bool(made.model.all_logits(data.images).isfinite().all())
        assert made.isolated.dtype == torch.int64
        assert len(made.isolated.unique()) == len(made.isolated) < COUNT
        assert set(made.isolated.tolist()) <= set(range(COUNT))
        assert made.steps
        for step in made.steps:
            assert step.summary
            assert {len(series) for series in step.curves.values()} == {len(step.curves["epoch"])}
            assert ("poisoned loss" in step.curves) == known
            json.dumps([step.curves, step.details])


def check_suspects(_method: Method, one: Used) -> None:
    found = one.result
    assert isinstance(found, Suspects)
    assert found.scores.shape == found.flagged.shape == (COUNT,)
    assert found.flagged.dtype == torch.bool
    assert bool(found.scores.isfinite().all())
    assert sorted(found.positions.tolist()) == found.flagged.nonzero().flatten().tolist()
    assert set(found.classes) <= set(range(CLASSES))
    json.dumps(found.classes)


RESULTS = {
    ("attacks", "poison"): check_poisoned,
    ("attacks", "train"): check_planted,
    ("scans", "scan"): check_scanned,
    ("repairs", "repair"): check_repaired,
    ("guards", "calibrate"): check_calibrated,
    ("trainers", "train"): check_trained,
    ("filters", "suspect"): check_suspects,
}
