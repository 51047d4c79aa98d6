from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch

from detrojan.findings import RepairStep
from detrojan.report.report import evaluate_report, measures, repair_report
from detrojan.run import Run


def test_a_scan_report_says_what_the_scan_said(made):
    report, result = made.make_scan(12, (3, 8), names=tuple(f"sign {n}" for n in range(12)))
    assert report.targets == [3, 8]
    assert [finding.label for finding in report.findings] == [f.label for f in result.flagged]
    assert report.findings[0].class_name == "sign 3"
    assert report.findings[0].trigger == "out/trigger-3.safetensors"
    assert report.labels_tested == list(range(12))
    assert [entry.label for entry in report.evidence if entry.flagged] == [3, 8]
    assert report.passes == result.passes


def test_model_data_and_run_are_recorded(scan):
    assert scan.model.input_shape == [3, 32, 32]
    assert scan.model.parameters == 3 * 32 * 32 * 10 + 10
    assert scan.model.preprocessing.model_dump() == {
        "low": 0.0, "high": 255.0, "mean": [0.5], "std": [2.0], "layout": "NCHW",
        "channels": "RGB", "framing": "",
    }  # fmt: skip
    assert (scan.data.images, scan.data.labelled, scan.data.shape) == (6, False, [3, 32, 32])
    assert scan.run.method == "made-up-scan"
    assert scan.run.summary.startswith("Looks for one small trigger")
    assert scan.run.reference == "Somebody et al., A Paper, 2019."
    assert scan.run.hyper_parameters["betas"] == [0.5, 0.9]
    assert scan.run.versions["torch"] == str(torch.__version__)
    assert scan.run.versions["numpy"] == np.__version__
    assert scan.run.started == "2026-03-01T12:30:00Z"


def test_the_mean_is_taken_over_the_targets():
    measured = measures(attack_success={4: 0.2, 1: 0.6}, stamped={4: 90})
    assert measured.attack_success == pytest.approx(0.4)
    assert [(t.label, t.attack_success, t.images) for t in measured.per_target] == [
        (1, 0.6, None),
        (4, 0.2, 90),
    ]
    assert measures().attack_success is None


def test_a_repair_records_each_method_by_name_and_local_time_as_utc(made):
    started = datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    report = repair_report(
        [RepairStep(method="prune", summary="Done.", curves={"n": [0.0], "loss": [float("nan")]})],
        made.make_model(10),
        made.make_data(),
        [],
        before=measures(),
        after=measures(),
        run=Run(),
        methods=[made.MadeUpScan(), made.MadeUpScan()],
        seconds=1,
        started=started,
    )
    assert list(report.run.hyper_parameters) == ["made-up-scan", "made-up-scan 2"]
    assert report.run.method == "made-up-scan,made-up-scan"
    assert report.run.started == "2026-02-28T23:00:00Z"
    assert report.steps[0].curves == {"n": [0.0], "loss": [None]}
    assert report.verification == {}
    assert report.output is None


def test_an_evaluation_is_made_from_measures(made):
    report = evaluate_report(
        measures(clean_accuracy=0.5, counts={"images": 6}),
        made.make_model(10),
        made.make_data(),
        run=Run(),
        seconds=1,
        started=made.STARTED,
        warnings=["careful"],
    )
    assert report.schema_ == "detrojan.evaluate/2"
    assert (report.clean_accuracy, report.counts, report.warnings) == (0.5, {"images": 6}, ["careful"])
