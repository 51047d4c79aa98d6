from __future__ import annotations

import pytest

from detrojan.judging.outcome import doubts, shortcomings
from detrojan.report.report import measures


def right(share, success=0.0, *, images=900):
    return measures(clean_accuracy=share, attack_success={3: success}, counts={"images": images})


def agreeing(share):
    return measures(agreement=share, attack_success={3: 0.0})


@pytest.mark.parametrize(
    ("before", "after", "verdict", "said"),
    [
        (right(0.9, 1.0), right(0.9), None, None),
        (right(0.9, 1.0), right(0.9), "no evidence", None),
        (right(0.9, 1.0), right(0.9, 0.049), "inconclusive", None),
        (right(0.9, 1.0), right(0.9, 0.34), None, "a trigger still works (share of the images: 34.0% for"),
        (right(0.9, 1.0), right(0.9), "backdoored", "the new scan finds a backdoor"),
        (right(0.9, 1.0), right(0.71), None, None),
        (right(0.9, 1.0), right(0.69), None, "clean accuracy fell from 90.0% to 69.0%"),
        (right(0.3, 1.0), right(0.16), None, None),
        (right(0.3, 1.0), right(0.14), None, "clean accuracy fell from 30.0% to 14.0%"),
        (agreeing(1.0), agreeing(0.75), None, "agreement with the delivered model fell from 100.0% to 75.0%"),
        (measures(), measures(clean_accuracy=0.9), None, None),
    ],
)  # fmt: skip
def test_it_says_why_a_model_counts_as_not_repaired(before, after, verdict, said):
    found = shortcomings(before, after, verdict)
    assert (len(found) == 1 and said in found[0]) if said else found == []


def test_every_reason_is_given_and_of_many_labels_the_first():
    after = measures(clean_accuracy=0.2, attack_success=dict.fromkeys(range(7), 0.5))
    alive, scan, loss = shortcomings(right(0.9), after, "backdoored")
    assert "50.0% for label 3 and 3 more labels; a repair leaves less than 5%" in alive
    assert "new scan" in scan
    assert "clean accuracy" in loss


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (right(0.9, 1.0), right(0.81), None),
        (right(0.9, 1.0), right(0.79), "the repair cost 11.0 points of clean accuracy, from 90.0% to 79.0%"),
        (agreeing(1.0), agreeing(0.85), "15.0 points of agreement"),
        (right(0.9, 1.0, images=19), right(0.9, images=19), "only 19 images measured the repair"),
        (right(0.9, 0.005), right(0.9), "label 3 worked on 0.5% of the images before the repair already"),
    ],
)
def test_what_a_reader_must_know_is_warned_of(before, after, said):
    found = [text for text in doubts(before, after) if said is None or said in text]
    assert len(found) == (said is not None)
