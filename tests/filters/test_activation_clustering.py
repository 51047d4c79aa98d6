from __future__ import annotations

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.filters.activation_clustering import ActivationClustering, reduce, silhouette, two_means
from detrojan.run import Run


def test_the_poisoned_group_of_the_target_is_found_and_no_other(lots):
    found = ActivationClustering().suspect(lots.poisoned.data, model=lots.on_poisoned, run=Run())
    bad = lots.poisoned.indices
    assert int(found.flagged.sum()) > 20
    assert float(torch.isin(found.positions, bad).double().mean()) > 0.9
    assert float(found.flagged[bad].double().mean()) > 0.3
    assert [label for label, told in found.classes.items() if told["flagged"]] == [lots.target]


def test_clean_data_are_left_alone(lots):
    found = ActivationClustering().suspect(lots.clean, model=lots.on_clean, run=Run())
    assert int(found.flagged.sum()) == 0
    assert set(found.classes) == set(range(6))


def groups(counts: tuple[int, int], gap: float) -> torch.Tensor:
    chance = torch.Generator().manual_seed(4)
    points = torch.randn(sum(counts), 3, generator=chance, dtype=torch.float64)
    points[counts[0] :, 0] += gap
    return points


def test_two_groups_are_told_apart_and_the_smaller_is_named():
    for counts in ((80, 20), (20, 80)):
        points = groups(counts, 12.0)
        small, margin = two_means(points, torch.Generator().manual_seed(0))
        wanted = torch.arange(100) >= 80 if counts[0] == 80 else torch.arange(100) < 20
        assert torch.equal(small, wanted)
        assert torch.equal(margin > 0, wanted)


def slow_silhouette(points: torch.Tensor, small: torch.Tensor) -> float:
    total = 0.0
    for i, point in enumerate(points):
        far = (points - point).norm(dim=1)
        own = (small == small[i]).nonzero().flatten().tolist()
        others = (small != small[i]).nonzero().flatten().tolist()
        inside = sum(float(far[j]) for j in own if j != i) / (len(own) - 1)
        outside = sum(float(far[j]) for j in others) / len(others)
        total += (outside - inside) / max(inside, outside)
    return total / len(points)


def test_the_silhouette_is_that_of_its_definition():
    points = groups((15, 9), 2.0)
    small = torch.arange(24) >= 15
    assert silhouette(points, small) == pytest.approx(slow_silhouette(points, small))
    assert silhouette(points, torch.zeros(24, dtype=torch.bool)) == 0


def test_reduced_features_keep_the_distances_of_the_main_directions():
    points = groups((30, 10), 8.0) @ torch.randn(
        3, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    reduced = reduce(points, 10)
    assert reduced.shape == (40, 3)
    scale = torch.cdist(points, points) / torch.cdist(reduced, reduced).clamp(min=1e-9)
    off = ~torch.eye(40, dtype=torch.bool)
    assert float(scale[off].std() / scale[off].mean()) < 1e-6
    assert reduce(torch.ones(12, 4).double(), 3).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"components": 0}, "expected components of 1 or more, got 0"),
        ({"size": 0.6}, r"expected a size in \(0, 0.5\] and a silhouette of -1 to 1, got 0.6 and 0.15"),
        ({"silhouette": 2.0}, "got 0.35 and 2"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        ActivationClustering(**wrong)


def test_it_says_what_it_cannot_see_where_nothing_is_flagged():
    general, own = ActivationClustering(size=0.2).limits(0)
    assert "Poison with true labels (clean-label), or spread so" in general
    assert own == "A group of 20% of its class or more is never flagged."
    assert ActivationClustering().limits(3) == ()
