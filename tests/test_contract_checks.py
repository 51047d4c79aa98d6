"""The contracts fail where they should: each is shown a method that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

pytest.register_assert_rewrite("contracts", "contract_subjects")

from contracts import (  # noqa: E402
    check_continues_where_it_stopped,
    check_documentation,
    check_nothing_given_is_changed,
    check_ranges,
    check_same_seed_same_result,
    check_silence,
    outside,
    used,
)
from detrojan.data.dataset import Dataset  # noqa: E402
from detrojan.findings import ScanResult  # noqa: E402
from detrojan.method import Method  # noqa: E402
from detrojan.models.classifier import Classifier  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Careless(Method):
    """A method that breaks one contract at a time.

    Reference: nobody.

    Args:
        rate: a rate, 0 to 1.

    """

    name = "careless"

    rate: float = 0.5

    def scan(self, model, data, *, run, labels=None):
        self.misbehave(model, data)
        return ScanResult(verdict="inconclusive", reason="-", findings=(), passes=0)

    def misbehave(self, model, data):
        pass


def careless(misbehave: Callable[[Classifier, Dataset], Any]) -> Method:
    return type("One", (Careless,), {"misbehave": lambda self, model, data: misbehave(model, data)})()


@pytest.mark.parametrize(
    ("misbehave", "says"),
    [
        (lambda model, data: data.images.mul_(0.5), "data changed"),
        (lambda model, data: data.labels.add_(1), "data changed"),
        (lambda model, data: model.network.eval(), "modes"),
        (lambda model, data: model.network.requires_grad_(requires_grad=False), "needs gradients"),
        (lambda model, data: model.logits(data.images).sum().backward(), "gradients"),
        (lambda model, data: model.network[3].weight.data.add_(1), "weights"),
        (lambda model, data: model.network[3].register_forward_hook(print), "hooks"),
    ],
    ids=["images", "labels", "mode", "frozen", "gradients", "weights", "hooks"],
)
def test_a_change_of_what_was_given_is_noticed(misbehave, says, capfd):
    with pytest.raises(AssertionError, match=says):
        check_nothing_given_is_changed(used(careless(misbehave), capfd))


@pytest.mark.parametrize(
    "misbehave", [lambda *_: torch.rand(1), lambda *_: torch.manual_seed(0)], ids=["draws", "seeds"]
)
def test_use_of_the_global_generator_is_noticed(misbehave, capfd):
    one, other = used(careless(misbehave), capfd), used(careless(lambda *_: None), capfd)
    for pair in ((one, other), (other, one)):
        with pytest.raises(AssertionError, match="global generator"):
            check_same_seed_same_result(*pair)


def test_a_result_that_differs_from_run_to_run_is_noticed(capfd):
    class Counting(Careless):
        count = 0

        def scan(self, model, data, *, run, labels=None):
            Counting.count += 1
            return Counting.count

    with pytest.raises(AssertionError, match="two results"):
        check_same_seed_same_result(used(Counting(), capfd), used(Counting(), capfd))


def test_a_state_that_changes_the_result_is_noticed(tmp_path, capfd):
    class Forgetful(Careless):
        def scan(self, model, data, *, run, labels=None):
            store = run.store("forgetful", {})
            tensors, _ = store.load() or ({"steps": torch.zeros(1)}, {})
            with run.progress.task("steps") as task:
                for _ in range(3):
                    tensors["steps"] += 1
                    store.save(tensors, {})
                    task.advance()
            return tensors

    with pytest.raises(AssertionError, match="stopped at advance 1"):
        check_continues_where_it_stopped(Forgetful(), used(Forgetful(), capfd).values, tmp_path)


def test_speech_is_noticed(capfd):
    with pytest.raises(AssertionError, match="speak to people"):
        check_silence(used(careless(lambda *_: print("hello")), capfd))  # noqa: T201


def test_missing_range_checks_are_noticed():
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_ranges(Careless)


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("A method that breaks one contract at a time.", "No sentence"),
        ("Reference: nobody.", ""),
        ("rate: a rate, 0 to 1.", ""),
        ("0 to 1", "some number"),
    ],
)
def test_missing_documentation_is_noticed(monkeypatch, part, instead):
    check_documentation(Careless)
    monkeypatch.setattr(Careless, "__doc__", Careless.__doc__.replace(part, instead))
    with pytest.raises(AssertionError, match="expected"):
        check_documentation(Careless)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("number of steps, 1 or more", [0]),
        ("learning rate, above 0", [0]),
        ("poison rate, above 0 to 1", [0, 2]),
        ("opacity, 0 to 1", [-1, 2]),
        ("share that is kept, 0 to below 1", [-1, 1]),
        ("the weight, 1e-4 to 0.5", [1e-4 - 1, 1.5]),
        ("opacity, in (0, 1]", [0, 2]),
        ("momentum, in [0, 1)", [-1, 1]),
        ("temperature, in (0, inf)", [0]),
        ("rounds, at least 3", [2]),
        ("label asked for, 0-based", []),
    ],
)
def test_ranges_are_read_from_the_documentation(text, wrong):
    assert outside(text) == wrong
