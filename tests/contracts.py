"""What every method promises, as functions that fail where one does not keep it.

`test_contracts` applies them to every method there is, `test_contract_checks` to methods that break
them on purpose. What each room's results promise stands in `contract_results`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from contract_subjects import flat, state_of, tiny_data, tiny_model, use
from detrojan.data.dataset import Dataset
from detrojan.errors import InterruptedRunError, OptionError
from detrojan.method import Method
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import Store, Tensors

NUMBER = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)"
INTERVAL = re.compile(rf"([(\[]){NUMBER}, (?:{NUMBER}|inf)([)\]])")
WORDS = re.compile(rf"(\babove )?{NUMBER} (?:up )?to (below )?{NUMBER}")
ABOVE = re.compile(rf"\b(?:above|more than) {NUMBER}")
OR_MORE = re.compile(rf"{NUMBER} or (?:more|above|higher)|\bat least {NUMBER}")
#: the upper end is the model's or the data's, which only the verb knows
BY_THE_MODEL = re.compile(r"\b0-based\b|\bnames? of a layer\b")


def outside(text: str) -> list[float]:
    """Return values just outside of the range that a hyper-parameter's documentation states.

    Raises:
        AssertionError: it states none.

    """
    if found := INTERVAL.search(text):
        low, high = float(found[2]), found[3]
        wrong = [low if found[1] == "(" else low - 1]
        return wrong if high is None else [*wrong, float(high) + (found[4] == "]")]
    if found := WORDS.search(text):
        low, high = float(found[2]), float(found[4])
        return [low if found[1] else low - 1, high if found[3] else high + 1]
    if found := ABOVE.search(text):
        return [float(found[1])]
    if found := OR_MORE.search(text):
        return [float(found[1] or found[2]) - 1]
    assert BY_THE_MODEL.search(text), (
        f"expected a range such as '1 or more', 'above 0', '0 to 1' or '(0, 1]', got {text!r}"
    )
    return []


def check_shape_of_the_class(method: type[Method]) -> None:
    assert dataclasses.is_dataclass(method)
    assert method.__dataclass_params__.frozen, "expected a frozen dataclass"
    assert "__dataclass_fields__" in vars(method), "expected a dataclass of its own, not its base's"
    for field in dataclasses.fields(method):
        assert field.kw_only, f"expected {field.name} to be keyword-only"
    made = method()
    assert made == method()
    record = json.loads(json.dumps(made.hyper_parameters()))
    assert set(record) == {field.name for field in dataclasses.fields(method)}


def check_documentation(method: type[Method]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", method.name), method.name
    assert method.summary().endswith("."), "expected a docstring that begins with a sentence"
    assert method.reference(), "expected a line 'Reference: ...' in the docstring"
    documented = method.parameter_docs()
    names = [field.name for field in dataclasses.fields(method)]
    assert list(documented) == names, "expected an Args entry per hyper-parameter, in their order"
    for field in dataclasses.fields(method):
        if type(field.default) in {int, float}:
            outside(documented[field.name])


def check_ranges(method: type[Method]) -> None:
    documented = method.parameter_docs()
    hints = typing.get_type_hints(method)
    for field in dataclasses.fields(method):
        wrong: list[Any] = []
        if type(field.default) in {int, float}:
            wrong = [type(field.default)(value) for value in outside(documented[field.name])]
        elif typing.get_origin(hints[field.name]) is typing.Literal:
            wrong = ["none of these"]
        for value in wrong:
            with pytest.raises(OptionError) as caught:
                method(**{field.name: value})
            assert re.search(r"expected .*got", str(caught.value)), str(caught.value)


@dataclass(frozen=True, kw_only=True)
class Used:
    """One use of a method: what came of it, and what it did besides.

    Attributes:
        model: the model that was given.
        data: the data that were given.
        result: what the verb returned.
        values: all plain values of the result.
        given: what the model and the data were like before and after, by what is looked at.
        generator_kept: whether the global generator of random numbers was left alone.
        said: what was written to standard output and to standard error.

    """

    model: Classifier
    data: Dataset
    result: Any
    values: list[tuple[str, Any]]
    given: dict[str, tuple[Any, Any]]
    generator_kept: bool
    said: tuple[str, str]


def used(method: Method, capfd: pytest.CaptureFixture[str], *, disturbance: int = 1) -> Used:
    """Use a method on the tiny model and data, and note what can be seen of it from outside."""
    model, data = tiny_model(), tiny_data()
    model_before, data_before = state_of(model), list(flat(data))
    capfd.readouterr()
    with torch.random.fork_rng():
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        result = use(method, model, data, Run(seed=3))
        generator_kept = torch.equal(torch.get_rng_state(), before)
    said = capfd.readouterr()
    given = {f"model's {what}": (model_before[what], value) for what, value in state_of(model).items()}
    return Used(
        model=model,
        data=data,
        result=result,
        values=list(flat(result)),
        given={"data": (data_before, list(flat(data))), **given},
        generator_kept=generator_kept,
        said=(said.out, said.err),
    )


def check_same_seed_same_result(one: Used, other: Used) -> None:
    assert one.generator_kept, "the global generator was used or seeded"
    assert other.generator_kept, "the global generator was used or seeded"
    assert one.values == other.values, "the same seed gave two results"


def check_nothing_given_is_changed(one: Used) -> None:
    for what, (before, after) in one.given.items():
        assert after == before, f"the {what} changed"


def check_silence(one: Used) -> None:
    assert one.said == ("", ""), "only the command line and the reports speak to people"


class Stopping:
    """Stops the work at its n-th advance, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    @property
    def stopped(self) -> bool:
        """Whether it did."""
        return self.left <= 0

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Stopping]:
        yield self

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptedRunError("stopped by the test")


@contextmanager
def noted_states() -> Iterator[list[str]]:
    """Note the states that are taken over from a checkpoint folder; no result hangs on a pace."""
    found: list[str] = []
    load = Store.load

    def noted(self: Store) -> tuple[Tensors, dict[str, Any]] | None:
        state = load(self)
        if state is not None and self.path is not None and not self.path.name.startswith("pace-"):
            found.append(self.path.name)
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "load", noted)
        yield found


def check_continues_where_it_stopped(method: Method, whole: list[tuple[str, Any]], folder: Path) -> None:
    """Stop the method early and let it go on: in the end it has `whole`, the values of a run at once."""

    def result(run: Run) -> list[tuple[str, Any]]:
        return list(flat(use(method, tiny_model(), tiny_data(), run)))

    # the first of them finds another seed's state, which is not to be used
    result(Run(seed=4, checkpoint=folder / "1"))
    for after in (1, 2, 5):
        kept, stopping, ended = folder / str(after), Stopping(after), None
        with contextlib.suppress(InterruptedRunError):
            ended = result(Run(seed=3, checkpoint=kept, progress=stopping))
        if stopping.stopped:
            if after > 1 and not kept.exists():
                continue  # it goes on from nothing, as it did after the first advance
            ended = result(Run(seed=3, checkpoint=kept))
        assert ended == whole, f"stopped at advance {after}"
        if not stopping.stopped:
            break  # it advances less often than this
    if kept.exists():
        assert result(Run(seed=3, checkpoint=kept)) == whole, "run again when it was done"
