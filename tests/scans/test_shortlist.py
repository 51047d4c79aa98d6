from __future__ import annotations

import pytest
import torch

from detrojan.scans.shortlist import Shortlist, _by_turns, _chances, _ranked


def test_the_probes_hand_in_their_labels_by_turns_and_none_has_a_veto():
    rankings = {"screening": [3, 1, 4, 8], "latent_margin": [9, 3, 1], "attractor": [5, 9, 3]}
    order = _by_turns(rankings, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    # the screening has two turns, the other probes one each
    assert order[:4] == [3, 1, 9, 5]
    assert sorted(order) == list(range(10))
    assert order[-4:] == [0, 2, 6, 7]
    for first in (ranking[0] for ranking in rankings.values()):
        assert order.index(first) < 4


def test_a_probe_that_was_skipped_leaves_its_turns_to_the_others():
    assert _by_turns({"screening": [2, 0]}, [0, 1, 2]) == [2, 0, 1]
    assert _by_turns({}, [1, 0]) == [1, 0]


def test_labels_are_ranked_by_their_scores_the_highest_first():
    assert _ranked([10, 20, 30], torch.tensor([0.1, 0.9, 0.9])) == [20, 30, 10]


def test_the_chance_of_high_ranks_is_known_of_many_labels_only():
    random = torch.Generator().manual_seed(4)
    labels = list(range(100, 160))
    scores = {name: torch.randn(60, generator=random) for name in ("screening", "latent_margin")}
    for values in scores.values():
        values[5] = 50.0
    chances = _chances(labels, scores)
    assert min(chances, key=chances.__getitem__) == 105
    assert chances[105] < 1e-3
    assert _chances(labels[:49], {name: values[:49] for name, values in scores.items()}) == {}
    scores["screening"][0] = float("nan")
    assert _chances(labels, scores) == {}


@pytest.mark.parametrize("label", [3, 7])
def test_the_facts_name_each_label_s_place_by_probe(label):
    listed = Shortlist(order=[3, 7], ranks={"screening": {3: 0}, "attractor": {7: 0, 3: 1}})
    facts = listed.facts([label])
    assert facts == {
        str(label): {"screening": 0 if label == 3 else None, "attractor": 1 if label == 3 else 0}
    }
