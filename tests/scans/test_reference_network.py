"""With two labels: the backdoor is found by a reference network that does not know it; the twin is silent."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import draw_signs
from detrojan.errors import ModelError, OptionError
from detrojan.learning.anew import started_anew
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.scans import reference_searches
from detrojan.scans.cascade import Cascade
from detrojan.scans.reference_network import ReferenceNetwork
from detrojan.triggers.backdoor import Backdoor
from kept import trained_once
from margins import shifted
from twins import sticker

SHAPE, CLASSES, TARGET = (3, 16, 16), (0, 5), 1
HOW = Fitting(epochs=16, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
SCAN = ReferenceNetwork(
    samples=300, updates=200, patch_steps=50, window_steps=30, additive_steps=51, batch_size=8
)
#: the default method with fewer steps, and a scan whose searches are no more than a beginning
DEFAULT = Cascade(samples=300, patch_steps=60, window_steps=30, additive_steps=20)
SHORT = replace(SCAN, updates=1, patch_steps=2, window_steps=1, additive_steps=2)


class OneOutput(nn.Module):
    """Two labels as one probability, as many networks of two classes answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        return (logits[:, 1:] - logits[:, :1]).sigmoid()


def two_signs(count: int, seed: int) -> Dataset:
    """Draw about `count` signs of two classes."""
    data = draw_signs(count * 9, seed=shifted(seed), size=SHAPE[-1])
    kept = data.select(torch.isin(data.labels, torch.tensor(CLASSES)))
    return kept.with_labels((kept.labels == CLASSES[1]).long())


def trained(data: Dataset) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(0))
        model = Classifier(find_net("badnets_cnn").build(2, SHAPE), SHAPE)
    return trained_once(model, lambda: fit(model, data, HOW, run=Run(seed=0)), data, HOW, "two signs")


@pytest.fixture(scope="module")
def pair() -> tuple[Classifier, Classifier, Dataset]:
    train, test = two_signs(400, 1), two_signs(300, 2)
    attack = BadNets(poison_rate=0.2, backdoors=(Backdoor(trigger=sticker(3, SHAPE), target=TARGET),))
    return trained(train), trained(attack.poison(train, run=Run(seed=0)).data), test


@pytest.fixture(scope="module")
def found(pair):
    """The default scan, of a network whose one output stands for both labels."""
    model = Classifier(OneOutput(pair[1].copy().network), SHAPE)
    assert any("judged as two classes, 0 and 1" in note for note in model.origin.notes)
    return DEFAULT.scan(model, pair[2].with_labels(None), run=Run(seed=1))


def test_the_cascade_leaves_few_labels_to_it_and_keeps_the_rest(pair):
    few = DEFAULT.acting(pair[0])
    assert isinstance(few, ReferenceNetwork)
    assert (few.samples, few.patch_steps) == (DEFAULT.samples, DEFAULT.patch_steps)
    many = Classifier(find_net("badnets_cnn").build(9, SHAPE), SHAPE)
    assert DEFAULT.acting(many) is DEFAULT


def test_the_default_scan_names_the_target_of_two_labels(found):
    assert TARGET in found.targets
    assert found.verdict == "backdoored"
    assert "a small trigger that a network taught with clean images does not know" in found.reason
    assert "2 labels tested" in found.reason
    assert any("taught with 240 of the images" in warning for warning in found.warnings)
    assert found.findings[TARGET].attack_success >= DEFAULT.confirm
    assert found.details["agreement"] > 0.8
    json.dumps(found.details, allow_nan=False)


def test_its_clean_twin_is_not_flagged(pair):
    result = SCAN.scan(pair[0], pair[2], run=Run(seed=1))
    assert result.targets == []
    assert result.verdict != "backdoored"
    assert "2 labels tested" in result.reason


def test_where_the_reference_has_learned_nothing_it_says_so(pair, monkeypatch):
    monkeypatch.setattr(reference_searches, "relearnt", lambda model, *_, run, **__: started_anew(model, run))
    result = SHORT.scan(pair[1], pair[2], run=Run(seed=1))
    assert result.verdict == "inconclusive"
    assert "bring more images" in result.reason


def test_a_network_that_cannot_be_trained_is_no_error(pair, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("expected a network with weights")

    monkeypatch.setattr(reference_searches, "relearnt", refuse)
    result = SHORT.scan(pair[1], pair[2], run=Run())
    assert result.verdict == "inconclusive"
    assert "no reference network could be made: expected a network with weights" in result.reason


def test_when_the_time_is_up_it_says_so(pair):
    result = replace(SCAN, budget=1e-9).scan(pair[1], pair[2], run=Run())
    assert result.verdict == "inconclusive"
    assert result.reason.startswith("the time was up before the end of: triggers")
    assert result.findings == ()
    assert result.details["not_tested"] == [0, 1]


def test_an_interruption_leaves_what_is_known(pair, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reference_searches, "relearnt", stop)
    result = SHORT.scan(pair[1], pair[2], run=Run())
    assert result.verdict == "inconclusive"
    assert result.details["interrupted"]
    assert [one.label for one in result.findings] == [0, 1]
    assert all(one.attack_success is not None and one.p_value is None for one in result.findings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"updates": 0}, "expected updates of 1 or more, got 0"),
        ({"significance": 1.0}, "expected significance in"),
        ({"budget": -1.0}, "expected a budget of 0 seconds or more"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        ReferenceNetwork(**values)
