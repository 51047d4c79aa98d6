"""Several threads ask one network: each gets what a single one would, and the network is left as it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from detrojan.models.classifier import Classifier
from detrojan.models.evaluating import evaluating, pieces
from detrojan.models.preprocessing import Preprocessing

SHAPE, THREADS = (3, 16, 16), 8


class Gate(nn.Module):
    """Lets a first thread through when a second one is in, and the second when the first has left."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.left = threading.Event(), threading.Event()

    def forward(self, images):
        match threading.current_thread().name:
            case "first":
                assert self.entered.wait(30)
            case "second":
                self.entered.set()
                assert self.left.wait(30)
        return images


def network(*, gate: bool = False) -> nn.Sequential:
    """In training mode batch norm and dropout answer otherwise, and batch norm learns from what it sees."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            *([Gate()] if gate else []),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(8 * 14 * 14, 5),
        )


def state(model: Classifier) -> list[object]:
    return [
        *(module.training for module in model.network.modules()),
        *(parameter.requires_grad for parameter in model.network.parameters()),
        *(tensor.tolist() for tensor in model.network.state_dict().values()),
        *(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules()),
    ]


@pytest.fixture
def model() -> Classifier:
    """In training mode, but for one module, and with a frozen parameter."""
    made = Classifier(network(), SHAPE)
    made.network.train()
    made.network[1].eval()
    made.network[0].bias.requires_grad_(requires_grad=False)
    return made


@pytest.fixture
def parts(images) -> list[torch.Tensor]:
    return list(images(6 * THREADS, *SHAPE).split(6))


@pytest.mark.parametrize("verb", ["answers", "all_logits", "probabilities", "activations"])
def test_threads_get_what_a_single_one_gets(model, parts, verb):
    before = state(model)
    ask = getattr(model, verb)
    alone = [ask(part) for part in parts]
    start = threading.Barrier(THREADS)

    def asked(part):
        start.wait(30)
        return [ask(part, batch=6) for _ in range(20)]

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(asked, parts))
    for one, several in zip(alone, together, strict=True):
        assert all(torch.equal(one, again) for again in several)
    assert state(model) == before


def test_a_thread_that_leaves_does_not_take_the_mode_from_one_that_is_still_in(images):
    model = Classifier(network(gate=True), SHAPE)
    batch, gate = images(4, *SHAPE), model.network[1]
    alone = model.all_logits(batch)
    model.network.train()
    found = {}

    def first():
        found["first"] = model.all_logits(batch)
        gate.left.set()

    def second():
        found["second"] = model.all_logits(batch)

    threads = [threading.Thread(target=what, name=what.__name__) for what in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert torch.equal(found["first"], alone)
    assert torch.equal(found["second"], alone)
    assert all(module.training for module in model.network.modules())
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_classifiers_that_share_a_network_hold_it_together(model):
    other = model.with_preprocessing(Preprocessing(high=255))
    before = state(model)
    with model.judging():
        with other.judging() as held:
            assert not any(module.training for module in held.modules())
        assert not any(module.training for module in model.network.modules())
        assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert state(model) == before


def test_a_network_that_cannot_be_held_is_left_as_it_was(model, monkeypatch):
    before = state(model)

    def fail():
        model.network[3].eval()
        raise RuntimeError("no")

    monkeypatch.setattr(model.network, "eval", fail)
    with pytest.raises(RuntimeError, match="no"), evaluating(model.network):
        pass
    assert state(model) == before
    monkeypatch.undo()
    with evaluating(model.network) as held:
        assert not held.training
    assert state(model) == before


def test_what_is_seen_through_one_preprocessing_is_not_changed_by_another(images):
    """Its tensors are made once for each device, and stay."""
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), SHAPE)
    batch = images(2, *SHAPE)
    seen = model.prepare(batch)
    assert model.prepare(batch.to("meta")).device.type == "meta"
    assert torch.equal(model.prepare(batch), seen)


@pytest.mark.parametrize(
    ("side", "device", "size"),
    [
        (32, "cpu", 512),
        (64, "cpu", 512),
        (112, "cpu", 167),
        (224, "cpu", 10),
        (4096, "cpu", 8),
        (224, "cuda", 512),
    ],
)
def test_a_processor_is_asked_about_fewer_large_images_at_a_time(side, device, size):
    images = torch.zeros(1, 1, 1, 1).expand(600, 1, side, side)
    sizes = [len(part) for part in pieces(images, 512, torch.device(device))]
    assert sizes[0] == size
    assert sum(sizes) == 600
    assert len(pieces(images, 3, torch.device(device))) == 200
