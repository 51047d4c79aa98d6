from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.learning.fitting import Fitting
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import digest
from detrojan.trainers.recovery import BORNE, ERROR, Recovery, answered, beyond_chance, dear


def damaged() -> tuple[Classifier, Dataset, torch.Tensor]:
    """Return a network that has lost label 1, data, and which of label 1's samples are poison.

    Samples of label 0 have a bright first pixel, those of label 1 a bright second one. Poison has the first
    one, the trigger in the third, and label 1.
    """
    generator = torch.Generator().manual_seed(1)
    images = 0.2 * torch.rand(90, 1, 2, 2, generator=generator)
    labels = torch.tensor([0] * 30 + [1] * 60)
    poison = torch.arange(90) >= 60
    images[:30, 0, 0, 0] = images[poison, 0, 0, 0] = images[30:60, 0, 0, 1] = images[poison, 0, 1, 0] = 0.9
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[4.0, 1.0, 2.0, 0.0], [0.0, 0.0, -2.0, 0.0]]))
        network[1].bias.zero_()
    return Classifier(network, (1, 2, 2)), Dataset(images, labels), poison


def test_clean_samples_find_their_label_again_and_poison_does_not():
    model, data, poison = damaged()
    clean = (data.labels == 1) & ~poison
    before = digest(model.network)
    assert answered(model, data).tolist() == (data.labels == 0).tolist()
    recovery = Recovery(how=Fitting(epochs=1, batch_size=10, learning_rate=0.1, decay="none"), augment=None)
    # a third of the clean samples of each label; no poison
    shown = torch.cat([torch.arange(10), torch.arange(30, 40)])
    again = recovery.answers(model, data, shown, run=Run(seed=1), title="-", identity={})
    assert bool(again[clean].all())
    assert not bool(again[poison].any())
    assert bool(again[:30].all())
    assert digest(model.network) == before


def test_with_nothing_to_train_on_nothing_comes_back():
    model, data, _ = damaged()
    recovery = Recovery(how=Fitting(epochs=1), augment=None)
    none = torch.zeros(0, dtype=torch.int64)
    again = recovery.answers(model, data, none, run=Run(), title="-", identity={})
    assert torch.equal(again, answered(model, data))


@pytest.mark.parametrize(
    ("lost", "found", "gained", "why"),
    [
        (0, 0, 0, ""),
        (100, 49, 0, ""),  # poison, most of it
        (100, 50, 0, "it cost 5.0 points on all other samples: of 100 that lost their label 50% found it"),
        (30, 30, 20, ""),  # as many are right since then but for 10 of 1000
        (15, 15, 0, ""),  # as many or more by chance in 8% of all cases
        (16, 16, 0, "it cost 1.6 points on all other samples: of 16 that lost their label 100% found it"),
    ],
)
def test_an_unlearning_is_dear_where_clean_samples_pay(lost, found, gained, why):
    before, now, again = (torch.ones(1000, dtype=torch.bool) for _ in range(3))
    now[:lost] = False
    again[found:lost] = False
    before[1000 - gained :] = False
    share, said = dear(before, now, again)
    assert share == found / max(1, lost)
    assert said.startswith(why)
    assert bool(said) == bool(why)


def test_what_is_borne_is_beyond_chance_as_seldom_as_stated():
    draw = torch.Generator().manual_seed(1)
    counts = torch.bernoulli(torch.full((4000, 500), BORNE), generator=draw).sum(1)
    often = sum(beyond_chance(int(count), 500, BORNE) for count in counts) / len(counts)
    assert 0 < often < ERROR + 0.01
