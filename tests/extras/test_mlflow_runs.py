"""What a scan found, logged in a real run of MLflow and read from it again."""

import json

import pytest

import detrojan
from detrojan.integrations.mlflow import log_scan
from ends import HOW, TURNED, network, pictures, set_head

pytestmark = pytest.mark.filterwarnings("ignore")
mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: make test-extras runs this")


@pytest.fixture
def experiment(tmp_path):
    """Return the id of an experiment in a folder; the server that is usual here is set back."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    yield mlflow.create_experiment("signs", artifact_location=(tmp_path / "kept").as_uri())
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("stated", [False, True])
def test_a_run_holds_figures_verdict_and_report(experiment, tmp_path, stated):
    model = network()
    set_head(model, planted=True)
    found = detrojan.scan(model, pictures()[0], **HOW)
    with mlflow.start_run(experiment_id=experiment) as run:
        if not stated:
            assert log_scan(found) == run.info.run_id
    if stated:
        log_scan(found, run_id=run.info.run_id)
        assert mlflow.active_run() is None
    kept = mlflow.get_run(run.info.run_id).data
    assert kept.metrics == {"detrojan_exit_code": 1, "detrojan_flagged_labels": 1}
    assert kept.tags["detrojan_verdict"] == "backdoored"
    (folder,) = (tmp_path / "kept").rglob("detrojan")
    assert json.loads((folder / "scan.json").read_text("utf-8"))["findings"][0]["label"] == TURNED
    assert (folder / "scan.html").read_text("utf-8") == found.to_html()
