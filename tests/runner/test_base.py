from __future__ import annotations

import pytest

from detrojan.errors import DataError, OptionError
from detrojan.run import Run
from detrojan.runner.base import engine_named, engines, rebuilt, told
from detrojan.runner.here import Here
from detrojan.runner.processes import Processes


def test_engines_are_found_by_their_files():
    assert {"here", "processes"} <= set(engines())
    assert engine_named("here") == Here()
    assert engine_named("processes", workers=3) == Processes(3)
    assert engine_named("processes").workers >= 1


@pytest.mark.parametrize(
    ("chosen", "more", "says"),
    [
        ("nowhere", {}, r"expected an engine out of here, processes.*, got 'nowhere'"),
        ("here", {"workers": 2}, "expected one worker and no address for the engine here, got 2 workers"),
        ("here", {"address": "a:1"}, "got the address a:1"),
        ("processes", {"workers": 0}, "expected 1 worker or more, got 0"),
        ("processes", {"address": "a:1"}, "expected no address for processes on this machine, got a:1"),
    ],
)
def test_what_an_engine_does_not_take_is_refused(chosen, more, says):
    with pytest.raises(OptionError, match=says):
        engine_named(chosen, **more)


def test_an_error_becomes_texts_and_an_error_again():
    again = rebuilt(*told(DataError("expected better data")), "one")
    assert isinstance(again, DataError)
    assert str(again) == "expected better data"
    other = rebuilt(*told(KeyError("gone")), "one")
    assert isinstance(other, RuntimeError)
    assert str(other) == "one: KeyError: 'gone'"
    assert rebuilt("type", "x", "", "one").args == ("one: type: x",), "a name that is no error of ours"


def half(run, item):
    if item == 0:
        raise KeyError("gone")
    if item == 1:
        raise DataError("expected better data")
    return item / 2


def test_here_each_item_has_its_own_outcome_and_the_others_go_on():
    found = list(Here().outcomes(half, [4, 0, 1, 6], run=Run()))
    assert [one.place for one in found] == [0, 1, 2, 3]
    assert [one.value for one in found] == [2, None, None, 3]
    assert str(found[1].error) == "0: KeyError: 'gone'"
    assert str(found[2].error) == "expected better data"
