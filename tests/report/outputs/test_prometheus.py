"""Metrics, read back by Prometheus' own client."""

import pytest

from detrojan.report.outputs.base import outputs

parser = pytest.importorskip("prometheus_client.parser", reason="comes with the extra serve")


@pytest.fixture
def families(results):
    text = outputs()["prometheus"].render_all(results)
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def test_verdicts_and_exit_codes_by_file(families, results):
    verdicts = {
        (one.labels["file"], one.labels["verb"]): one.labels["verdict"]
        for one in families["detrojan_verdict"].samples
    }
    assert len(verdicts) == len(results)
    assert verdicts["m 0.h5", "scan"] == "backdoored"
    assert verdicts['a "b"\n.pt', "scan"] == "not judged"
    codes = {one.labels["file"]: one.value for one in families["detrojan_exit_code"].samples}
    assert codes["m 3.h5"] == 0
    assert codes["m 2.h5"] == 3


def test_problems_tell_accepted_ones_apart(families):
    counts = {
        (one.labels["file"], one.labels["accepted"]): one.value
        for one in families["detrojan_problems"].samples
    }
    assert counts["m 0.h5", "false"] == counts["m 3.h5", "true"] == 1
    assert counts["m 0.h5", "true"] == counts["m 3.h5", "false"] == 0


def test_figures_and_times(families):
    (success, _) = families["detrojan_attack_success_ratio"].samples
    assert success.value == pytest.approx(0.995)
    assert success.labels["label"] == "3"
    before, after = families["detrojan_clean_accuracy_ratio"].samples
    assert (before.value, after.value) == (pytest.approx(0.978), pytest.approx(0.969))
    assert families["detrojan_samples_flagged"].samples[0].value == 12
    ended = {one.labels["file"]: one.value for one in families["detrojan_finished_timestamp_seconds"].samples}
    assert ended["/data/bought.npz"] == pytest.approx(1772368202)
    assert all(family.type == "gauge" and family.documentation for family in families.values())
