from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.errors import DataError
from detrojan.guards.usual import Usual, finite_tensor, odds


@pytest.fixture
def vectors():
    chance = torch.Generator().manual_seed(0)
    mixed = torch.randn(400, 3, generator=chance).double() @ torch.tensor(
        [[1.0, 0.9, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 5.0]], dtype=torch.float64
    )
    return torch.cat([mixed, torch.full((400, 1), 7.0, dtype=torch.float64)], 1)


def test_distances_are_those_of_a_slow_reference(vectors):
    usual = Usual.of(vectors)
    values = vectors.numpy()[:, :3]
    inside = (values - values.mean(0)) / values.std(0)
    inverse = np.linalg.inv(np.corrcoef(values.T) + 0.1 * np.eye(3))
    wanted = [np.sqrt(row @ inverse @ row / 4) for row in inside[:10]]
    assert usual.distance(vectors[:10]).numpy() == pytest.approx(wanted, rel=1e-6)


def test_what_breaks_a_correlation_is_far_and_what_never_varied_counts_for_nothing(vectors):
    usual = Usual.of(vectors)
    step = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    against = step * torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    along, across, other = usual.distance(
        usual.mean + 2 * torch.stack([step, against, torch.tensor([0, 0, 0, 1.0], dtype=torch.float64)])
    ).tolist()
    assert across > 2 * along
    assert other < 1e-6


def test_what_is_no_number_stays_none(vectors):
    usual = Usual.of(vectors)
    assert bool(usual.distance(torch.full((1, 4), torch.nan)).isnan().all())
    assert bool(usual.distance(torch.full((1, 4), torch.inf)).isnan().all())


def test_it_is_kept_and_checked(vectors):
    usual = Usual.of(vectors)
    kept = usual.state("a")
    assert torch.equal(Usual.restored(kept, "a", 4).distance(vectors), usual.distance(vectors))
    for change, said in (
        ({"a.mean": torch.zeros(3, dtype=torch.float64)}, "expected a.mean as torch.float64 of shape"),
        ({"a.scale": torch.zeros(4, dtype=torch.float64)}, "expected a.scale above 0"),
        ({"a.precision": torch.full((4, 4), torch.nan, dtype=torch.float64)}, "expected finite numbers"),
        ({"a.mean": torch.zeros(4)}, "got torch.float32"),
    ):
        with pytest.raises(DataError, match=said):
            Usual.restored(kept | change, "a", 4)
    with pytest.raises(DataError, match=r"expected b as torch.float64 of shape .2,., got none"):
        finite_tensor({}, "b", (2,))


def test_odds_are_a_label_s_against_all_others_and_never_saturate_early():
    logits = torch.tensor([[30.0, 0.0, 0.0], [0.0, 1.0, 2.0], [900.0, 0.0, 0.0]])
    found = odds(logits, torch.tensor([0, 1, 0]))
    assert found[0] == pytest.approx(30 - np.log(2))
    assert found[1] == pytest.approx(1 - np.log(1 + np.exp(2)))
    assert found[2] == 50
    assert bool(odds(torch.full((1, 3), torch.nan), torch.tensor([0])).isnan())
