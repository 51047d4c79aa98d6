from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.ibd_psc import IbdPsc
from detrojan.metrics.detection import auroc
from detrojan.models.classifier import Classifier
from detrojan.run import Run

RUN, SHAPE = Run(seed=1, device="cpu"), (1, 8, 8)


def network(*, norms: bool) -> Classifier:
    """Two convolutions and a linear layer with weights that depend on nothing."""
    layers = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
    ]
    made = nn.Sequential(*(one for one in layers if norms or not isinstance(one, nn.BatchNorm2d)))
    made.extend([nn.Flatten(), nn.Linear(6 * 16, 4)])
    chance = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=chance) * 0.3
    return Classifier(made.eval(), SHAPE)


@pytest.fixture(scope="module")
def clean():
    return Dataset(torch.rand(80, *SHAPE, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("norms", [True, False])
def test_the_score_is_the_mean_log_odds_in_networks_with_louder_layers(clean, norms):
    model = network(norms=norms)
    made = IbdPsc(frr=0.1, wrong=0.01, networks=2).calibrate(model, clean, run=RUN)
    images = clean.images[:5]
    places = torch.arange(5), model.answers(images)
    wanted = []
    for depth in range(made.first, made.first + len(made.amplified)):
        copy = model.copy()
        kind = nn.BatchNorm2d if norms else nn.Conv2d
        for layer in [one for one in copy.network if isinstance(one, kind)][-depth:]:
            layer.weight.data *= made.factor
            layer.bias.data *= made.factor
        wanted.append(torch.logit(copy.all_logits(images).double().softmax(1)[places]))
    assert torch.allclose(made.score(images), torch.stack(wanted).mean(0), atol=1e-4)


def test_an_answer_beyond_all_bounds_is_still_surer_than_a_sure_one(clean):
    model = network(norms=True)
    model.network[-1].weight.data *= 1e4
    made = IbdPsc(frr=0.1, wrong=0.01, networks=2).calibrate(model, clean, run=RUN)
    top = made.score(clean.images).sort().values[-20:]
    assert bool((top > 50).all())
    assert len(top.unique()) == 20
    assert float(top[-1]) < 70


def test_answers_that_no_louder_layer_changes_stand_out(clean):
    """The sure answer is one that a neuron of the last layer alone decides, whatever the others say."""
    model = network(norms=True)
    made = IbdPsc(frr=0.1, wrong=0.2).calibrate(model, clean, run=RUN)
    scores = made.score(clean.images)
    kept = torch.stack([one.answers(clean.images) for one in made.amplified]).eq(model.answers(clean.images))
    steady = kept.all(0)
    assert 0 < int(steady.sum()) < len(clean)
    assert auroc(scores[~steady], scores[steady]) > 0.8


def test_labels_decide_the_depth_and_a_network_that_bears_all_is_told(clean):
    model = network(norms=True)
    wrong = clean.with_labels((model.answers(clean.images) + 1) % 4)
    assert IbdPsc(frr=0.1).calibrate(model, wrong, run=RUN).first == 1
    with torch.no_grad():
        model.network[-1].bias += torch.tensor([1e6, 0, 0, 0])
    sure = IbdPsc(frr=0.1).calibrate(model, clean, run=RUN)
    assert "this guard tells little here" in sure.warnings[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"first": 9}, "expected a first depth of 1 to 2"), ({"factor": 0.5}, "expected a factor above 1")],
)
def test_damaged_files_are_refused(clean, tmp_path, monkeypatch, change, said):
    made = IbdPsc(frr=0.1, wrong=0.01).calibrate(network(norms=True), clean, run=RUN)
    tensors, values = made.state()
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors, values | change))
    with pytest.raises(DataError, match=said):
        load_guard(save_guard(made, tmp_path), made.model)
