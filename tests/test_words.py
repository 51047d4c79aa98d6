import pytest

from detrojan.words import (
    duration,
    fact_rows,
    file_name,
    label_name,
    number,
    percent,
    plural,
    printable,
    ranges,
    sentence,
)


def test_printable_spells_out_what_would_act():
    assert printable("a\x1b[2Jb\nc\u202ed\u2028e") == "a\\u001b[2Jb\\u000ac\\u202ed\\u2028e"
    assert printable("schön 中 \U0001f6d1") == "schön 中 \U0001f6d1"


def test_printable_shortens_in_the_middle():
    shown = printable("begin" + "x" * 100 + "end", 20)
    assert len(shown) == 20
    assert shown.startswith("begin")
    assert shown.endswith("end")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds).replace("\u00a0", " ") == text


def test_what_was_not_measured_is_a_dash():
    assert percent(None) == number(None) == "\u2013"
    assert percent(0.978) == "97.8%"
    assert number(1234.567, 1) == "1,234.6"


def test_names_stand_beside_labels_only_where_they_say_more():
    assert label_name(3, "stop") == "3 “stop”"
    assert label_name(3, "3") == label_name(3, "") == label_name(3, "  ") == "3"


def test_labels_are_told_in_ranges():
    assert ranges([5, 0, 1, 2, 9]) == "0 to 2, 5, 9"
    assert ranges(list(range(0, 40, 2)), most=3) == "0, 2, 4 and 17 more labels"
    assert ranges([]) == ""


def test_plurals():
    assert plural(1, "label") == "1 label"
    assert plural(1283, "label") == "1,283 labels"
    assert plural(2, "class", "classes") == "2 classes"


def test_facts_are_short():
    rows = fact_rows({"learning_rate": 0.1, "yes": True, "many": list(range(20)), "none": None, "empty": []})
    assert rows == [
        ("learning rate", "0.1"),
        ("yes", "yes"),
        ("many", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (20 in all)"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no label stands out", "No label stands out."),
        ("mm_bd finds none", "mm_bd finds none."),
        ("p = 0.02; label 3", "p = 0.02; label 3."),
        ("3 labels tested", "3 labels tested."),
        ("is it this model's?", "Is it this model's?"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_and_ends(text, said):
    assert sentence(text) == said


@pytest.mark.parametrize("path", ["/a/b/model.h5", "model.h5", "c:\\nets\\model.h5", "/a/model.h5/"])
def test_a_file_s_name_is_the_last_part_of_its_path(path):
    assert file_name(path) == "model.h5"
