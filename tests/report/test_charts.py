import re
from itertools import pairwise

import pytest

from detrojan.report.charts import NARROW, curve_chart, curve_groups
from detrojan.report.schema import Step
from detrojan.report.sentences import stopped_at
from detrojan.report.svg import Scale, bottom_axis, round_up


def test_shares_come_together_and_others_stand_alone():
    curves = {
        "epoch": [1, 2],
        "clean accuracy": [0.1, 0.9],
        "loss": [2.0, 1.0],
        "attack success": [1.0, None],
    }
    assert curve_groups(curves) == [["clean accuracy", "attack success"], ["loss"]]
    small = {"epoch": [1, 2], "loss": [0.2, 0.1], "clean loss": [0.9, 0.2], "share": [0.5, 1.0]}
    assert curve_groups(small) == [["share"], ["loss", "clean loss"]], "a loss below 1 is no share"
    assert "Share of images" not in curve_chart(small, ["loss", "clean loss"])
    assert curve_groups({"epoch": [1]}) == []
    assert curve_groups({}) == []
    assert curve_groups({"epoch": [1], "nothing": [None]}) == []


def test_a_curve_breaks_where_nothing_was_measured():
    svg = curve_chart({"epoch": [1, 2, 3, 4], "loss": [4.0, 3.0, None, 1.0]}, ["loss"])
    drawn = re.search(r'class="series s0" d="([^"]+)"', svg).group(1)
    assert drawn.count("M") == 2
    assert drawn.count("L") == 1


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, -1.0], [None, 1e9]])
def test_odd_curves_are_drawn_all_the_same(values):
    curves = {"n": [0.0] * len(values), "value": values}
    for names in curve_groups(curves):
        assert "nan" not in curve_chart(curves, names)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"chosen": 54}, 54),
        ({"neurons_pruned": 8}, 8),
        ({"pruned": 9}, 9),
        ({"chosen": True}, None),
        ({}, None),
    ],
)
def test_where_a_step_stopped_is_read_from_its_details(details, expected):
    step = Step(method="prune", summary="", curves={"neurons pruned": [0.0]}, details=details)
    assert stopped_at(step) == expected


def test_ticks_are_round_and_inside():
    assert Scale(0, 100, 0, 1).ticks(5) == [0, 20, 40, 60, 80, 100]
    assert Scale(0, 2, 0, 1).ticks(6, whole=True) == [0, 1, 2]
    assert Scale(3, 3, 0, 1).ticks() == [3]


@pytest.mark.parametrize("shown", [lambda place: f"{10**-place:g}", lambda value: f"{value:,.3f}"])
@pytest.mark.parametrize("end", [90, 200, NARROW])
def test_the_numbers_of_an_axis_do_not_cover_each_other(shown, end):
    scale = Scale(0, 5, 30, end)
    drawn = "".join(bottom_axis(scale, 20, "p-value", most=8, whole=True, shown=shown))
    ticks = [
        (float(x), len(text)) for x, text in re.findall(r'class="tick" x="([\d.]+)"[^>]*>([^<]+)<', drawn)
    ]
    assert ticks
    for (x, length), (after, long) in pairwise(ticks):
        assert after - x >= 6.5 * (length + long) / 2


def test_axes_end_on_round_numbers():
    assert [round_up(value) for value in (0, 0.07, 1, 4.8, 61, 99, 101)] == pytest.approx(
        [1, 0.08, 1, 5, 80, 100, 150]
    )
