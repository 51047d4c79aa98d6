"""What a scan found, in a run of MLflow."""

from __future__ import annotations

from detrojan.calls.results import ScanOutcome
from detrojan.extras import require
from detrojan.integrations.ending import figures


def log_scan(found: ScanOutcome, *, folder: str = "detrojan", run_id: str | None = None) -> str:
    """Log a scan: its figures as metrics, its verdict as a tag, and its report as artifacts.

    Args:
        found: what `detrojan.scan` gave back, or the `found` of a callback.
        folder: where the artifacts `scan.html` and `scan.json` go.
        run_id: the run; None for the active one, which is started where there is none.

    Returns:
        The run's id.

    Raises:
        MissingExtraError: MLflow is not installed.

    """
    mlflow = require("mlflow", extra="mlflow", what="its runs")
    if run_id is None:
        run_id = str((mlflow.active_run() or mlflow.start_run()).info.run_id)
    client = mlflow.MlflowClient()
    for name, figure in figures(found).items():
        client.log_metric(run_id, name, figure)
    client.set_tag(run_id, "detrojan_verdict", found.verdict)
    client.log_text(run_id, found.to_html(), f"{folder}/scan.html")
    client.log_text(run_id, found.to_json(), f"{folder}/scan.json")
    return run_id
