from __future__ import annotations

import pytest
import torch

from detrojan.judging.policy import POLICY
from detrojan.scans.shortlist import Shortlist, _chances, by_turns, ranked_by, together


def test_the_probes_hand_in_their_labels_by_turns_and_none_has_a_veto():
    rankings = {
        "together": [3, 9, 5],
        "second_look": [3, 1, 4, 8],
        "latent_margin": [9, 3, 1],
        "attractor": [5, 9, 3],
        "head_rows": [7, 3, 9],
    }
    order = by_turns(rankings, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert sorted(order) == list(range(10))
    for first in (ranking[0] for ranking in rankings.values()):
        assert order.index(first) < len(POLICY.turns)


def test_a_probe_that_was_skipped_leaves_its_turns_to_the_others():
    assert by_turns({"second_look": [2, 0]}, [0, 1, 2]) == [2, 0, 1]
    assert by_turns({}, [1, 0]) == [1, 0]
    assert by_turns({"unknown": [1, 0]}, [0, 1]) == [0, 1]


def test_one_blind_probe_takes_hardly_anything_from_a_label_that_the_others_put_first():
    scores = {name: torch.arange(100.0) for name in ("one", "two", "three")}
    scores["blind"] = -torch.arange(100.0)
    assert together(scores).argmax() == 99
    # the mean of the ranks would put all labels near each other; here even the tenth is far behind
    best = together(scores).sort(descending=True).values
    assert best[0] - best[9] > 4


def test_labels_are_ranked_by_their_scores_the_highest_first():
    assert ranked_by([10, 20, 30], torch.tensor([0.1, 0.9, 0.9])) == [20, 30, 10]


def test_the_chance_of_high_ranks_is_known_of_many_labels_only():
    random = torch.Generator().manual_seed(4)
    labels = list(range(100, 160))
    scores = [torch.randn(60, generator=random) for _ in range(2)]
    for values in scores:
        values[5] = 50.0
    chances = _chances(labels, scores)
    assert min(chances, key=chances.__getitem__) == 105
    assert chances[105] < 1e-3
    assert _chances(labels[:49], [values[:49] for values in scores]) == {}
    scores[0][0] = float("nan")
    assert _chances(labels, scores) == {}


@pytest.mark.parametrize("label", [3, 7])
def test_the_facts_name_each_label_s_place_by_probe(label):
    listed = Shortlist(order=[3, 7], ranks={"screening": {3: 0}, "attractor": {7: 0, 3: 1}})
    facts = listed.facts([label])
    assert facts == {
        str(label): {"screening": 0 if label == 3 else None, "attractor": 1 if label == 3 else 0}
    }
