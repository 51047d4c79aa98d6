from __future__ import annotations

import io

import pytest
from pydantic import ValidationError
from rich.console import Console

from detrojan.report.records.predict import Answer, answer_table, overflow_warnings

ROW = {"input": "a.png", "label": 1, "class_name": "stop", "probability": 0.5}


def shown(renderable):
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    return console.file.getvalue()


def test_a_guard_s_statistic_stands_under_its_own_name():
    answer = Answer(**ROW, backdoored=True, entropy=0.25)
    assert answer.model_dump() == ROW | {"backdoored": True, "entropy": 0.25}
    assert answer.statistic("entropy") == 0.25
    assert Answer(**ROW).model_dump() == ROW
    with pytest.raises(ValidationError, match="entropy"):
        Answer(**ROW, entropy="low")


def test_what_has_no_number_is_counted_and_said():
    lost = Answer(**ROW | {"probability": None}, backdoored=True, entropy=None)
    rows = [Answer(**ROW, backdoored=False, entropy=1.0), lost]
    assert overflow_warnings(rows[:1]) == overflow_warnings(rows[:1], "entropy") == []
    assert overflow_warnings(rows) == ["1 input without a probability: there the network's answers overflow"]
    assert overflow_warnings([lost, lost], "entropy") == [
        "2 inputs called backdoored without entropy: there the network's answers overflow"
    ]


def test_the_table_has_the_verdict_where_a_guard_judged():
    rows = [Answer(**ROW, backdoored=True, entropy=0.25), Answer(**ROW, backdoored=False, entropy=None)]
    guarded = shown(answer_table(rows, "entropy"))
    assert all(text in guarded for text in ("entropy", "0.2500", "backdoored", "no evidence", "50.0%"))
    assert "verdict" not in shown(answer_table(rows))
    assert "\x1b" not in shown(answer_table([Answer(**ROW | {"input": "\x1b[2Ja.png"})]))
