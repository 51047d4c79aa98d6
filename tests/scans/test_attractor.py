from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.synthetic import smooth_noise
from detrojan.errors import OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.attractor import Attractor
from twins import TARGET

LABELS = 60


class ManyLabels(nn.Module):
    """Sixty labels by random projections; sharp edges, which its plain images lack, speak for `target`."""

    def __init__(self, target: int, pull: float) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(4)
        self.project = nn.Parameter(torch.randn(LABELS, 3 * 16 * 16, generator=random))
        self.target, self.pull = target, pull

    def forward(self, images):
        images = images - images.mean((1, 2, 3), keepdim=True)
        logits = images.flatten(1) @ self.project.T
        edges = images.diff(dim=3).abs().amax((1, 2, 3))
        extra = nn.functional.one_hot(torch.tensor(self.target), LABELS) * self.pull * edges[:, None]
        return logits / logits.std(1, keepdim=True) + extra


@pytest.fixture(scope="module")
def plain() -> Dataset:
    images = smooth_noise(300, (3, 16, 16), torch.Generator().manual_seed(1))
    return Dataset(nn.functional.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False))


def test_a_label_that_swallows_what_is_strange_is_flagged(plain):
    model = Classifier(ManyLabels(17, 8.0), (3, 16, 16))
    assert float((model.answers(plain.images) == 17).float().mean()) < 0.2
    result = Attractor(count=700).scan(model, plain, run=Run(seed=1))
    assert (result.verdict, result.targets) == ("backdoored", [17])
    (finding,) = result.flagged
    assert finding.p_value < 0.01
    assert finding.size is None
    first = result.details["most_attractive"][0]
    assert first["label"] == 17
    assert first["share"] > 2 * first["plain_share"]


def test_without_such_a_label_there_is_no_evidence(plain):
    result = Attractor(count=700).scan(Classifier(ManyLabels(17, 0.0), (3, 16, 16)), plain, run=Run(seed=1))
    assert (result.verdict, result.targets) == ("no evidence", [])
    assert "% or more would have been one" in result.reason


def test_a_label_that_is_merely_far_ahead_is_named_but_not_flagged(plain):
    model = Classifier(ManyLabels(17, 3.0), (3, 16, 16))
    result = Attractor(count=700, significance=1e-9).scan(model, plain, run=Run(seed=1))
    assert (result.verdict, result.targets) == ("inconclusive", [])
    assert result.reason.startswith("label 17 swallows ")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_few_labels_it_ranks_the_target_higher_and_never_flags_a_wrong_one(twins, seed):
    run = Run(seed=seed)
    clean = Attractor(count=700).scan(twins.clean, twins.test, run=run)
    infected = Attractor(count=700).scan(twins.backdoored, twins.test, run=run)
    assert clean.targets == []
    assert set(infected.targets) <= {TARGET}

    def rank(result):
        return sorted(result.details["scores"].values(), reverse=True).index(
            result.details["scores"][str(TARGET)]
        )

    assert rank(infected) < rank(clean)


def test_a_count_below_the_kinds_is_refused():
    with pytest.raises(OptionError, match="expected a count of 7 images or more, got 6"):
        Attractor(count=6)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["sunglasses", "anonymous_1"])
def test_the_targets_of_the_contest_s_networks_come_first(shared_data, name):
    from detrojan.data.reading import read_data  # noqa: PLC0415
    from detrojan.models.loading import load_model  # noqa: PLC0415

    model = load_model(shared_data / "models" / "csaw2020" / f"{name}_bd_weights.h5", net="deepid")
    faces = read_data(shared_data / "lfw_55x47_jpeg.npz", limit=500, unlabelled=True)
    result = Attractor().scan(model, faces, run=Run(seed=0))
    assert result.details["most_attractive"][0]["label"] == 0
    assert set(result.targets) <= {0}
    assert result.verdict != "no evidence"
