"""Settings of replicas; what needs Ray itself is among the tests of other libraries."""

import sys

import pytest

from detrojan.errors import MissingExtraError, OptionError
from detrojan.serve.on_ray import app, options_of


def test_settings_come_as_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = options_of({"guard": "guard", "mode": "block", "batch": "8", "delay": "2.5", "hosts": "a,b"})
    assert (found.mode, found.batch, found.delay, found.hosts) == ("block", 8, 2.5, ("a", "b"))
    assert str(found.guard) == str(tmp_path / "guard")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "expected guard=FOLDER"),
        ({"guard": "x", "port": "8000"}, "got port"),
        ({"guard": "x", "token": "long-enough"}, "got token"),
        ({"guard": "x", "batch": "many"}, "wrong settings: batch"),
        ({"guard": "x", "batch": "0"}, "expected batch of 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_named(given, says):
    with pytest.raises(OptionError, match=says):
        options_of(given)


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[ray\]"'):
        app({"guard": "x"})
