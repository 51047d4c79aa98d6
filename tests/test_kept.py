"""What was trained is found again by what depends on the same things, and by nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kept as keeping
from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from kept import kept, trained_once


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(keeping.FOLDER, str(tmp_path))


def counting(calls: list[int]):
    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"sum": torch.tensor(float(len(calls)))}

    return make


def test_it_is_made_once_and_again_where_anything_differs(monkeypatch):
    calls: list[int] = []
    make = counting(calls)
    data = Dataset(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    others = data.with_labels(torch.tensor([1, 1])), data.with_labels(None), Dataset(data.images + 0.5)
    for depends in ((1, data), *((1, other) for other in others), (2, data)):
        first, second = kept("it", make, *depends), kept("it", make, *depends)
        assert torch.equal(first["sum"], second["sum"])
    assert len(calls) == 5
    monkeypatch.setattr(keeping, "_surroundings", lambda: "another processor")
    kept("it", make, 1, data)
    assert len(calls) == 6
    monkeypatch.setattr(keeping.inspect, "getsource", lambda _module: "another source")
    kept("it", make, 1, data)
    assert len(calls) == 7


def test_a_network_gets_the_weights_that_its_training_gave():
    def start() -> Classifier:
        layer = nn.Linear(4, 2)
        nn.init.constant_(layer.weight, 1.0)
        nn.init.zeros_(layer.bias)
        return Classifier(nn.Sequential(nn.Flatten(), layer), (1, 2, 2))

    def train(model: Classifier) -> None:
        calls.append(1)
        with torch.no_grad():
            model.network[1].weight.mul_(len(calls) + 1)

    calls: list[int] = []
    for _ in range(2):
        model = start()
        assert trained_once(model, lambda model=model: train(model), "how") is model
        assert bool((model.network[1].weight == 2).all())
        assert not model.network.training
    assert len(calls) == 1
    other = start()
    trained_once(other, lambda: train(other), "otherwise")
    assert bool((other.network[1].weight == 3).all())


def test_the_folder_of_a_session_goes_with_it_and_one_that_is_named_stays(monkeypatch, tmp_path):
    assert keeping.open_folder() is None
    keeping.close_folder(None)
    assert tmp_path.is_dir()
    monkeypatch.delenv(keeping.FOLDER)
    folder = keeping.open_folder()
    assert keeping.os.environ[keeping.FOLDER] == folder.name
    keeping.close_folder(folder)
    assert keeping.FOLDER not in keeping.os.environ
    assert not keeping.Path(folder.name).exists()
