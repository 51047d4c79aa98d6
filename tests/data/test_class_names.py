"""Which label of a network a class of the data is."""

import pytest

from detrojan.data.class_names import both_lists, match_classes, overlap


@pytest.mark.parametrize(
    ("found", "known", "labels"),
    [
        (["stop", "yield"], ["yield", "no_entry", "stop"], (2, 0)),
        (["No Entry", "STOP"], ["yield", "no_entry", "stop"], (1, 2)),
        (
            ["tench", "great_white_shark"],
            ["tench, Tinca tinca", "goldfish", "great white shark, white shark"],
            (0, 2),
        ),
        (["n01440764", "n01443537"], ["n01443537 goldfish", "n01440764_tench"], (1, 0)),
        (["00_stop", "01_yield"], ["yield", "stop"], (1, 0)),
        (["cat.007"], ["dog", "cat"], (1,)),
        (["0", "2"], ["cat", "dog", "bee"], (0, 2)),
        (["1", "2", "3"], ["cat", "dog", "bee"], (0, 1, 2)),
        (["10", "2"], [str(n) for n in range(12)], (10, 2)),
    ],
)
def test_classes_of_a_network_with_names(found, known, labels):
    assert match_classes(found, known, len(known)).labels == labels


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (["stop", "cow"], ["yield", "stop"]),
        (["a", "b"], ["c", "d"]),
        (["cat", "Cat"], ["cat", "dog"]),
        (["7"], ["cat", "dog"]),
        (["cat"], ["cat", "CAT"]),
        (["crane"], ["crane, bird", "crane, machine"]),
    ],
)
def test_what_cannot_be_told_is_no_match(found, known):
    assert match_classes(found, known, len(known)) is None


@pytest.mark.parametrize(
    ("found", "classes", "labels"),
    [
        (["ant", "bee", "cat"], 3, (0, 1, 2)),
        (["0", "1", "5"], 10, (0, 1, 5)),
        (["1", "2", "3"], 3, (0, 1, 2)),
        (["class_1", "class_10", "class_2"], 11, (1, 10, 2)),
        (["05_stop", "07_yield"], 10, (5, 7)),
        (["00003", "00001"], 43, (3, 1)),
    ],
)
def test_classes_of_a_network_without_names(found, classes, labels):
    match = match_classes(found, (), classes)
    assert match.labels == labels
    assert match.changes is (labels != tuple(range(len(labels))))


def test_a_part_of_the_classes_cannot_be_told_by_names_that_say_nothing():
    assert match_classes(["ant", "bee"], (), 3) is None
    assert match_classes(["ant", "bee", "cat", "dog"], (), 3) is None


def test_both_lists_are_shown_and_shortened_and_harmless():
    text = both_lists(["a\x1b[31m", "b"], [str(n) for n in range(40)])
    assert "\x1b" not in text
    assert text.startswith("the data's classes are a\\u001b[31m, b; the network's are 0, 1, 2,")
    assert text.endswith("11, ... (40)")
    assert overlap(["stop", "cow"], ["Stop, halt", "yield"]) == 1
