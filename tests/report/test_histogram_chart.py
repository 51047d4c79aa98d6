import re

import pytest

from detrojan.report.charts import NARROW, WIDE
from detrojan.report.histogram_chart import histogram_chart


def rectangles(svg, css):
    found = re.findall(
        rf'<rect class="{css}" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg
    )
    return [tuple(map(float, values)) for values in found]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_each_group_s_bars_are_its_shares_and_stay_inside(width):
    groups = {"clean": [1.0] * 30 + [2.0] * 10, "stamped": [0.0] * 4}
    svg = histogram_chart(groups, limit=0.5, axis="Entropy", width=width)
    clean, bad = rectangles(svg, "bar usual"), rectangles(svg, "bar flagged")
    assert len(clean) == 2
    assert clean[0][3] == pytest.approx(3 * clean[1][3], abs=0.3)
    assert bad[0][3] == pytest.approx(4 / 3 * clean[0][3], abs=0.3)
    assert all(x >= 0 and x + wide <= width and y >= 0 for x, y, wide, _ in clean + bad)
    assert "boundary 0.5" in svg
    assert bad[0][0] < float(re.search(r'class="limit" x1="([\d.]+)"', svg).group(1)) < clean[0][0]


def test_the_normal_curve_peaks_at_its_mean():
    svg = histogram_chart({"clean": [1.0, 2.0, 3.0]}, limit=0.0, axis="Entropy", normal=(2.0, 0.5))
    points = re.search(r'class="fit" d="M([^"]+)"', svg).group(1).split("L")
    top = min(points, key=lambda point: float(point.split()[1]))
    mean = 48 + 2 / 4 * (WIDE - 18 - 48)  # the axis ends at 4
    assert float(top.split()[0]) == pytest.approx(mean, abs=6)


@pytest.mark.parametrize("values", [[0.0], [-2.0, -1.0], [1e-9, 1e-9], [3.0] * 5])
def test_odd_scores_are_drawn_all_the_same(values):
    svg = histogram_chart({"clean": values}, limit=values[0], axis="Score", normal=(values[0], 0.0))
    assert "nan" not in svg
    assert len(rectangles(svg, "bar usual")) >= 1


def test_names_stay_text():
    assert "<script" not in histogram_chart({"<script>": [1.0]}, limit=0, axis="<script>")
