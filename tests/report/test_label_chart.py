import re
from itertools import pairwise

import pytest

from detrojan.findings import SHARE_OF_MEDIAN
from detrojan.report.charts import NARROW, WIDE
from detrojan.report.label_chart import anomaly_chart, size_chart
from detrojan.report.schema import UnitFacts


def coordinates(svg):
    """Return every x that is drawn."""
    return [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="([-\d.]+)"', svg)]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("classes", [2, 12, 33, 300])
@pytest.mark.parametrize("by_chance", [False, True])
def test_everything_is_drawn_inside_the_frame(made, classes, width, by_chance):
    report, _ = made.make_scan(classes, (0,))
    svg = anomaly_chart(with_chances(report) if by_chance else report, width)
    assert f'viewBox="0 0 {width} ' in svg
    assert all(0 <= x <= width for x in coordinates(svg))


def decided_by(report, **values):
    """Return the report as of a scan with another criterion."""
    return report.model_copy(update={"criterion": report.criterion.model_copy(update=values)})


def with_chances(report, **values):
    """Return the report as of a scan whose p-value decides."""
    evidence = [
        entry.model_copy(update={"p_value": 1e-5 if entry.flagged else min(1.0, 0.1 + entry.label / 10)})
        for entry in report.evidence
    ]
    values = {"decides": "p-value", "threshold": None, "significance": 0.01} | values
    return decided_by(report.model_copy(update={"evidence": evidence}), **values)


@pytest.mark.parametrize("label", [0, 700])
def test_a_single_label_is_drawn_too(made, label):
    report, _ = made.make_scan(12, (3,))
    alone = report.evidence[3].model_copy(update={"label": label})
    svg = anomaly_chart(report.model_copy(update={"evidence": [alone]}))
    assert svg.count('class="bar flagged"') == 1


def test_bars_are_as_long_as_the_index(made):
    report, _ = made.make_scan(12, (3,))
    svg = anomaly_chart(report)
    bars = re.findall(r'<rect class="bar (\w+)" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', svg)
    assert len(bars) == 12
    assert [kind for kind, _ in bars].count("flagged") == 1
    assert bars[3][0] == "flagged"
    ratio = float(bars[3][1]) / report.evidence[3].anomaly_index
    for (_, length), entry in zip(bars, report.evidence, strict=True):
        assert float(length) == pytest.approx(ratio * entry.anomaly_index, abs=0.2)


def test_labels_with_large_masks_are_set_apart(made):
    report, _ = made.make_scan(12, (3,))
    kinds = re.findall(r'<rect class="bar (\w+)"', anomaly_chart(report))
    assert kinds.count("larger") == 6
    assert kinds.count("usual") == 5


def test_the_threshold_is_the_scan_s_own(made):
    report, _ = made.make_scan(12, (3,))
    assert "threshold 2<" in anomaly_chart(report)
    assert "threshold 3.5<" in anomaly_chart(decided_by(report, threshold=3.5))


def test_an_index_over_the_median_is_named_and_has_its_own_limit(made):
    report, _ = made.make_scan(12, (3,))
    svg = anomaly_chart(decided_by(report, threshold=0.6, unit=UnitFacts.of(SHARE_OF_MEDIAN)))
    assert "threshold 0.6<" in svg
    assert "Anomaly index (deviation / median)" in svg


def test_names_of_many_flagged_points_do_not_cover_each_other(made):
    report, _ = made.make_scan(300, tuple(range(100, 108)))
    names = re.findall(r'<text class="name halo" x="([\d.]+)" y="([\d.]+)"', anomaly_chart(report))
    assert len(names) == 8
    heights = sorted(float(y) for _, y in names)
    assert all(b - a >= 13.9 for a, b in pairwise(heights))


def test_where_the_p_value_decides_it_is_drawn_with_its_own_limit(made):
    report, _ = made.make_scan(12, (3,))
    svg = anomaly_chart(with_chances(report))
    assert "significance 0.01<" in svg
    assert "threshold" not in svg
    bars = re.findall(r'<rect class="bar (\w+)" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', svg)
    assert {kind for kind, _ in bars} == {"flagged", "usual"}
    assert float(bars[3][1]) == pytest.approx(5 * float(bars[0][1]), abs=0.5), (
        "p = 1e-5 and 0.1, on a log scale"
    )
    assert all(f">{tick}<" in svg for tick in ("1", "0.1", "0.01", "0.001", "0.0001"))


def test_a_scan_with_an_index_threshold_keeps_it_beside_its_p_values(made):
    report, _ = made.make_scan(12, (3,))
    svg = anomaly_chart(with_chances(report, decides="index", threshold=2.0))
    assert "threshold 2<" in svg
    assert "significance" not in svg


def test_many_labels_are_points_over_the_p_value(made):
    report, _ = made.make_scan(300, (5,))
    svg = anomaly_chart(with_chances(report))
    assert "significance 0.01<" in svg
    assert "P-value of 300 labels, significance 0.01, lowest 1e-05. Flagged: 5." in svg


def test_where_the_p_value_decides_the_threshold_of_the_index_is_not_drawn(made):
    report, _ = made.make_scan(12, (3,))
    svg = anomaly_chart(with_chances(report, threshold=1e6))
    assert "threshold" not in svg
    assert "significance 0.01<" in svg


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("classes", [2, 12, 33, 300])
def test_sizes_are_drawn_inside_the_frame(made, classes, width):
    report, _ = made.make_scan(classes, (0,))
    svg = size_chart(report, width)
    assert f'viewBox="0 0 {width} ' in svg
    assert all(0 <= x <= width for x in coordinates(svg))


def test_the_bars_of_the_sizes_are_as_long_as_the_triggers_are_large(made):
    report, _ = made.make_scan(12, (3,))
    svg = size_chart(report)
    bars = re.findall(r'<rect class="bar (\w+)" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', svg)
    assert [kind for kind, _ in bars] == ["flagged" if label == 3 else "usual" for label in range(12)]
    ratio = float(bars[0][1]) / report.evidence[0].size
    for (_, length), entry in zip(bars, report.evidence, strict=True):
        assert float(length) == pytest.approx(ratio * entry.size, abs=0.4)
    sizes = sorted(entry.size for entry in report.evidence)
    assert f"median {(sizes[5] + sizes[6]) / 2:.1f} pixels. Flagged: 3." in svg


def test_no_chart_of_sizes_is_drawn_where_there_are_none(made):
    report, _ = made.make_scan(12, ())
    bare = [entry.model_copy(update={"size": None, "unit": None}) for entry in report.evidence]
    assert size_chart(report.model_copy(update={"evidence": bare})) == ""
