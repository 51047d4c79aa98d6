"""MLflow evaluates models with the evaluator that detrojan registers."""

from __future__ import annotations

import numpy as np
import pytest

from detrojan.errors import DataError, OptionError
from detrojan.integrations.mlflow_evaluator import Evaluator
from ends import HOW, SHAPE, TURNED, network, pictures, set_head

pytestmark = pytest.mark.filterwarnings("ignore")
mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: make test-extras runs this")
pytest.importorskip("pandas", reason="mlflow evaluates with pandas: make test-extras installs it")


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory):
    """Return the folder that runs are kept in; the server that is usual here is set back."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/runs.db")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("signs", (folder / "kept").as_uri()))
        yield folder / "kept"
        mlflow.set_tracking_uri(before)


def evaluated(model, *, config=None, images=None, **how):
    rows, labels = pictures()
    rows = (rows if images is None else images).reshape(len(rows), -1)
    how = {"model_type": "image-classifier", "evaluators": "detrojan", **how}
    return mlflow.models.evaluate(
        model, rows, targets=labels, evaluator_config=HOW if config is None else config, **how
    )


def logged(*, planted):
    made = network().eval()
    set_head(made, planted=planted)
    shape = mlflow.models.infer_signature(pictures()[0])
    kept = mlflow.pytorch.log_model(
        made, name="model", signature=shape, serialization_format="pickle", pip_requirements=["torch"]
    )
    return kept.model_uri


@pytest.mark.parametrize("named", [True, False])
def test_a_logged_network_is_scanned_in_the_run_and_a_threshold_fails(kept, named):
    with mlflow.start_run() as run:
        result = evaluated(logged(planted=True), **({} if named else {"evaluators": None}))
    assert result.metrics == {"detrojan_exit_code": 1, "detrojan_flagged_labels": 1}
    assert result.artifacts["detrojan_scan"].content["targets"] == [TURNED]
    assert mlflow.get_run(run.info.run_id).data.tags["detrojan_verdict"] == "backdoored"
    assert (kept / run.info.run_id / "artifacts" / "detrojan" / "scan.html").is_file()
    bound = mlflow.models.MetricThreshold(threshold=0, greater_is_better=False)
    with pytest.raises(Exception, match="detrojan_flagged_labels"):
        mlflow.validate_evaluation_results(
            candidate_result=result, validation_thresholds={"detrojan_flagged_labels": bound}
        )


def test_a_function_is_scanned_by_its_answers():
    made = network().eval()

    def answers(rows):
        import torch  # noqa: PLC0415

        with torch.no_grad():
            return made(torch.from_numpy(np.asarray(rows, dtype=np.float32))).numpy()

    result = evaluated(answers, config={"method": "peaks", "input_shape": SHAPE, "samples": 60})
    assert result.metrics["detrojan_exit_code"] in {0, 1, 3}
    assert result.artifacts["detrojan_scan"].content["labels_tested"]
    with pytest.raises(OptionError, match="expected input_shape"):
        evaluated(answers, config={"samples": 60})
    with pytest.raises(OptionError, match="got budgte"):
        evaluated(answers, config={"budgte": 60})
    with pytest.raises(
        DataError, match=r"expected rows of 75 values, images of \(3, 5, 5\), got \(100, 192\)"
    ):
        evaluated(answers, config={"input_shape": (3, 5, 5)})


def test_evaluations_of_other_models_are_left_alone():
    judge = Evaluator()
    assert judge.can_evaluate(model_type="image-classifier", evaluator_config={})
    assert judge.can_evaluate(model_type="classifier", evaluator_config={"budget": 60})
    assert not judge.can_evaluate(model_type="classifier", evaluator_config={})
    assert not judge.can_evaluate(model_type="regressor", evaluator_config={"explainability_nsamples": 5})
