"""What all callbacks share, with a framework of two names that nobody has installed."""

import copy
import logging
import sys
from types import SimpleNamespace

import pytest

from detrojan.errors import MissingExtraError
from detrojan.integrations import ending, lightning
from ends import HOW, TURNED, network, pictures, set_head


class Theirs:
    def __init__(self):
        self.ready = True


class Mine(ending.Ending):
    homes = ("framework.first", "framework_second")
    extra = "framework"

    def ended(self, model):
        self.logged = self._scan(model, "Net")
        self._end()


@pytest.fixture
def framework(monkeypatch):
    """Let the framework be imported under its second name."""
    monkeypatch.setitem(sys.modules, "framework_second", SimpleNamespace(Callback=Theirs))


def test_the_class_of_the_framework_becomes_the_base(framework):
    made = Mine(*pictures())
    assert isinstance(made, Mine)
    assert isinstance(made, Theirs)
    assert made.ready
    again = copy.copy(made)
    assert type(again) is type(made)
    assert vars(again) == vars(made)


def test_a_missing_framework_is_named_with_the_command_that_installs_it(monkeypatch):
    with pytest.raises(
        MissingExtraError, match=r'callbacks need; install it with: pip install "detrojan\[fra'
    ):
        Mine(*pictures())
    for name in lightning.ScanAtEnd.homes:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[lightning\]"'):
        lightning.ScanAtEnd(*pictures())


def test_a_network_is_left_as_it_was_and_the_figures_are_for_the_log(framework, caplog):
    caplog.set_level(logging.INFO)
    callback, model = Mine(*pictures(), on_backdoor="warn", **HOW), network().train()
    set_head(model, planted=False)
    callback.ended(model)
    assert callback.logged == {"detrojan_exit_code": 0, "detrojan_flagged_labels": 0}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    set_head(model, planted=True)
    callback.ended(model)
    assert callback.logged == {"detrojan_exit_code": 1, "detrojan_flagged_labels": 1}
    assert callback.found.targets == [TURNED]
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_scan_that_can_say_nothing_warns(framework, caplog):
    callback, model = Mine(*pictures(), **HOW), network()
    model[4].bias.data[2] += 1e6
    callback.ended(model)
    assert callback.logged["detrojan_exit_code"] == 3
    assert "Inconclusive" in caplog.text
