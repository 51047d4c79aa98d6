from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from detrojan.errors import OptionError
from detrojan.jobs.settings import changed, methods_named


@dataclass(frozen=True, kw_only=True)
class Kinds:
    whole: int = 1
    share: float = 0.5
    flag: bool = False
    word: Literal["a", "b"] = "a"
    maybe: int | None = 3
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    other: tuple[object, ...] = ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("whole=7", 7),
        ("share=1e-3", 0.001),
        ("flag=yes", True),
        ("flag=off", False),
        ("word=b", "b"),
        ("maybe=none", None),
        ("maybe=4", 4),
        ("pair=0.5, 0.9", (0.5, 0.9)),
        ("many=1,2,3", (1, 2, 3)),
        ("many=", ()),
    ],
)
def test_text_becomes_the_type_of_the_field(text, value):
    assert getattr(changed(Kinds(), [text]), text.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("whole=1.5", "expected whole as a whole number, got '1.5'"),
        ("flag=perhaps", "expected flag as yes or no"),
        ("word=c", "expected word as a or b, got 'c'"),
        ("pair=1", "expected pair as a number, ..., got '1'"),
        ("other=1", "other cannot be set as text"),
        ("none=1", "expected one of whole, share"),
        ("=1", "expected NAME=VALUE"),
    ],
)
def test_what_does_not_fit_is_said(text, says):
    with pytest.raises(OptionError, match=says.replace("(", r"\(")):
        changed(Kinds(), [text])


def test_a_setting_goes_to_all_methods_that_have_it_or_to_the_one_it_names():
    first, second = methods_named("repairs", ["unlearn", "finetune"], ["epochs=7"])
    assert first.epochs == second.epochs == 7
    first, second = methods_named("repairs", ["unlearn", "finetune"], ["finetune.epochs=9"])
    assert (first.epochs == 9, second.epochs) == (False, 9)


@pytest.mark.parametrize("text", ["share=inf", "share=nan", "share=1e999", "pair=0, -inf"])
def test_what_is_no_finite_number_is_refused(text):
    with pytest.raises(OptionError, match=r"expected (share|pair) as a finite number, got "):
        changed(Kinds(), [text])
