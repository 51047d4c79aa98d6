"""The tensors of an answer by name, and the one that answers the classes."""

import pytest
import torch

from detrojan.errors import ModelError, OptionError
from detrojan.models.heads import chosen, flat, heads

WIDE, NARROW = torch.zeros(2, 7), torch.ones(2, 3)


def test_names_are_keys_and_places_joined_by_dots():
    found = heads({"a": (WIDE, [NARROW]), "b": None, 3: {"c": WIDE, "loss": 0.5}})
    assert list(found) == ["a.0", "a.1.0", "3.c"]
    assert found["a.1.0"] is NARROW


def test_an_answer_that_holds_itself_ends():
    answer = {"x": WIDE}
    answer["again"] = answer
    assert next(iter(heads(answer))) == "x"
    assert len(heads(answer)) < 10


@pytest.mark.parametrize(
    ("answer", "output", "name"),
    [
        ((WIDE, NARROW), None, "0"),
        ((WIDE[:, :, None, None].expand(-1, -1, 2, 2), NARROW), None, "1"),
        ({"features": WIDE, "logits": NARROW}, None, "logits"),
        ({"aux": {"logits": WIDE}, "logits": NARROW}, None, "logits"),
        ({"a": WIDE, "b": NARROW}, "b", "b"),
        ({"a": WIDE, "b": NARROW}, "1", "b"),
        ({"1": WIDE, "b": NARROW}, "1", "1"),
        (WIDE, "0", ""),
    ],
)
def test_the_head_that_answers_the_classes(answer, output, name):
    assert chosen(answer, output, 2)[0] == name


def test_what_is_not_there_is_refused():
    with pytest.raises(OptionError, match=r"expected an output out of a \(N, 7\), got '7'"):
        chosen({"a": WIDE}, "7", 2)
    with pytest.raises(OptionError, match="expected an output out of one tensor without a name, got 'a'"):
        chosen(WIDE, "a", 2)
    two = {"age": {"logits": WIDE}, "colour": {"logits": NARROW}}
    with pytest.raises(OptionError, match=r"got age.logits \(N, 7\), colour.logits \(N, 3\): name one"):
        chosen(two, None, 2)
    with pytest.raises(ModelError, match=r"got the outputs a \(N, 4, 4\), b \(N, 3\)"):
        chosen({"a": torch.zeros(2, 4, 4), "b": NARROW.long()}, None, 2)


def test_flat():
    assert flat(torch.zeros(5), 1).shape == (5, 1)
    assert flat(torch.zeros(5, 2), 2).shape == (5, 2)
    assert flat(torch.zeros(5, 2, 1, 1), 4).shape == (5, 2)
