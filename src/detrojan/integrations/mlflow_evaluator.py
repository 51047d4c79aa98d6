"""The evaluator that `mlflow.models.evaluate` knows as "detrojan": it scans an image classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.errors import DataError, OptionError
from detrojan.extras import require

#: the type of model that MLflow's own evaluators leave alone
IMAGES = "image-classifier"
_OWN = {"model", "data", "labels", "report", "baseline"}


class Evaluator:
    """Scan a model that MLflow evaluates, and log what was found in its run.

    MLflow makes one where an evaluation names "detrojan", or where `model_type` is "image-classifier".
    `evaluator_config` holds what `detrojan.scan` takes, and besides:

    - `model`: what is scanned instead of the evaluated model, such as its file;
    - `data` and `labels`: the images instead of the evaluated rows;
    - `report`: where the report goes, e.g. scan.html;
    - `baseline`: a file of known findings.

    A network of PyTorch is scanned itself; of another model the answers alone. Each row of the data is an
    image, brought to the model's input shape: `input_shape`, or what the model's signature says.
    """

    def can_evaluate(self, *, model_type: str | None, evaluator_config: Mapping[str, Any], **_: Any) -> bool:
        """Tell whether an evaluation is meant: other models, and settings of other evaluators, are not."""
        return model_type == IMAGES or bool(evaluator_config and set(evaluator_config) <= _options())

    def evaluate(
        self,
        *,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any] | None = None,
        model: Any = None,
        **more: Any,
    ) -> Any:
        """Return the figures of the scan as MLflow's `EvaluationResult`; its report is an artifact.

        Args:
            dataset: of MLflow, rows (N, C * H * W) with values as `detrojan.scan` takes them.
            run_id: the run that the scan is logged in.
            evaluator_config: see above.
            model: of MLflow, or None.
            more: what other evaluators need.

        Raises:
            DataError: rows that are no images of the model's input shape.
            OptionError: an option that is not known, no model, or no input shape.

        """
        del more
        from detrojan.integrations.ending import figures, scanned  # noqa: PLC0415 - MLflow imports this file
        from detrojan.integrations.mlflow import log_scan  # noqa: PLC0415
        from detrojan.jobs.baselines import read_baseline  # noqa: PLC0415

        how = dict(evaluator_config or {})
        if unknown := sorted(set(how) - _options()):
            raise OptionError(f"expected options of detrojan.scan, got {', '.join(unknown)}")
        stated, data, marks = (how.pop(name, None) for name in ("model", "data", "labels"))
        report, known = how.pop("report", None), how.pop("baseline", None)
        if "input_shape" not in how and (shape := _shape(model)):
            how["input_shape"] = shape
        if data is None:
            data, marks = _images(dataset, how.get("input_shape")), _labels(dataset)
        found, _code = scanned(
            _subject(model) if stated is None else stated,
            data,
            marks,
            known=None if known is None else read_baseline(Path(known)),
            report=report,
            **how,
        )
        log_scan(found, run_id=run_id)
        evaluation = require("mlflow.models.evaluation", extra="mlflow", what="its evaluations")
        kinds = require("mlflow.models.evaluation.artifacts", extra="mlflow", what="its evaluations")
        content = json.loads(found.to_json())
        artifact = kinds.JsonEvaluationArtifact(uri=f"runs:/{run_id}/detrojan/scan.json", content=content)
        return evaluation.EvaluationResult(figures(found), {"detrojan_scan": artifact}, run_id)


def _options() -> set[str]:
    from detrojan.calls import verbs  # noqa: PLC0415 - slow
    from detrojan.calls.given import Feeding  # noqa: PLC0415

    named = {name for name, one in signature(verbs.scan).parameters.items() if one.kind.value == 3}
    return named | set(Feeding.__annotations__) | _OWN


def _subject(model: Any) -> Any:
    """Return what can be scanned of a model of MLflow: the network, or a function of images."""
    from torch import nn  # noqa: PLC0415

    if model is None:
        raise OptionError("expected a model to evaluate, got predictions alone")
    raw = getattr(model, "get_raw_model", None)
    try:
        network = None if raw is None else raw()
    except NotImplementedError:  # some flavours keep it to themselves
        network = None
    if isinstance(network, nn.Module):
        return network
    return lambda images: np.asarray(model.predict(np.asarray(images)))


def _shape(model: Any) -> tuple[int, ...] | None:
    """Return the (C, H, W) that a model's signature states, or None."""
    schema = getattr(getattr(model, "metadata", None), "get_input_schema", lambda: None)()
    if schema is None or not schema.is_tensor_spec():
        return None
    shape = tuple(schema.inputs[0].shape[1:])
    return shape if len(shape) == 3 and min(shape) > 0 else None


def _images(dataset: Any, shape: tuple[int, int, int] | None) -> np.ndarray[Any, Any]:
    if shape is None:
        raise OptionError(
            "expected input_shape=(C, H, W) in evaluator_config, since the model's signature does not say it"
        )
    rows = np.asarray(dataset.features_data)
    if rows.ndim != 2 or rows.shape[1] != np.prod(shape):
        raise DataError(f"expected rows of {np.prod(shape):,} values, images of {shape}, got {rows.shape}")
    return rows.reshape(-1, *shape)


def _labels(dataset: Any) -> Any:
    return dataset.labels_data if dataset.has_targets else None
