from __future__ import annotations

import json
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from detrojan.records import Number, Share
from detrojan.report.records.base import Record, Sparse


class Row(Sparse):
    name: str
    share: Share = None


class Told(Record):
    schema_: Literal["test/1"] = Field(default="test/1", alias="schema")
    rows: list[Row]
    figure: Number
    more: Share = None


def test_the_schema_comes_first_and_what_nobody_set_is_left_out():
    told = Told(rows=[Row(name="a"), Row(name="b", share=None), Row(name="c", share=0.5)], figure=None)
    assert list(told.values()) == ["schema", "rows", "figure"]
    assert told.values() == {
        "schema": "test/1",
        "rows": [{"name": "a"}, {"name": "b", "share": None}, {"name": "c", "share": 0.5}],
        "figure": None,
    }
    assert Told(rows=[], figure=1.0, more=None).values()["more"] is None


def test_what_is_written_is_read_again_as_it_was(tmp_path):
    told = Told(rows=[Row(name="ä", share=1.0)], figure=float("nan"))
    text = told.save(tmp_path / "deep" / "told.json").read_text()
    assert text == told.to_json() + "\n"
    assert text.isascii()
    assert Told.model_validate(json.loads(text), strict=True).values() == told.values()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "test/2"}, "Input should be 'test/1'"),
        ({"other": 1}, "Extra inputs are not permitted"),
        ({"more": 1.5}, "less than or equal to 1"),
        ({"rows": [{"name": "a", "extra": 1}]}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_not_of_the_schema_is_refused(change, says):
    values = Told(rows=[], figure=0.0).values() | change
    with pytest.raises(ValidationError, match=says):
        Told.model_validate(values)
