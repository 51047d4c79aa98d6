"""What a service measures of itself, as Prometheus reads it."""

from __future__ import annotations

import math
from typing import Any

import torch

from detrojan.serve.judged import Judged
from detrojan.serve.watch import Watch

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_STATES = ("usual", "under attack", "drifted", "attack or drift")


class Figures:
    """The metrics of one service, in a registry of their own.

    Args:
        clean_scores: of the calibration; the score's histogram is cut at their quantiles.
        threshold: a cut of the histogram too.

    """

    def __init__(self, clean_scores: torch.Tensor, threshold: float) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # noqa: PLC0415 - an extra

        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "detrojan_requests", "Requests by endpoint and status.", ["endpoint", "status"], **own
        )
        self.seconds = Histogram(
            "detrojan_request_seconds", "Seconds from a request to its answer.", ["endpoint"],
            buckets=_SECONDS, **own,
        )  # fmt: skip
        self.refused = Counter("detrojan_refused", "Requests not answered, by reason.", ["reason"], **own)
        self.inputs = Counter("detrojan_inputs", "Images judged, by verdict.", ["verdict"], **own)
        self.rejected = Counter("detrojan_rejected", "Images rejected, by reason.", ["reason"], **own)
        self.batches = Histogram("detrojan_batch_images", "Images per batch.", buckets=_IMAGES, **own)
        self.computing = Histogram(
            "detrojan_batch_seconds", "Seconds of computing per batch.", buckets=_SECONDS, **own
        )
        self.upstream = Histogram(
            "detrojan_upstream_seconds", "Seconds from a judged request to the upstream's answer.",
            buckets=_SECONDS, **own,
        )  # fmt: skip
        cuts = {
            round(float(cut), 6) for cut in clean_scores.double().quantile(torch.linspace(0, 1, 17).double())
        }
        self.scores = Histogram(
            "detrojan_score", "The guard's score, higher where more suspicious.",
            buckets=sorted({*cuts, threshold}), **own,
        )  # fmt: skip
        self.waiting = Gauge("detrojan_queue_images", "Images that wait for a batch.", **own)
        self.open = Gauge("detrojan_open_requests", "Requests in progress.", **own)
        self.state = Gauge(
            "detrojan_inputs_state", "1 for the state that the inputs are in.", ["state"], **own
        )
        self.evidence = Gauge(
            "detrojan_evidence",
            "Each test's evidence over its bound; 1 or more is an alarm.",
            ["test"],
            **own,
        )

    def judged(self, judged: Judged, watch: Watch) -> None:
        """Count the images of an answer."""
        for verdict, reason, score in zip(
            judged.verdicts, judged.reasons, judged.scores.tolist(), strict=True
        ):
            self.inputs.labels(verdict).inc()
            if reason:
                self.rejected.labels(reason).inc()
            self.scores.observe(score if math.isfinite(score) else math.inf)
        for state in _STATES:
            self.state.labels(state).set(state == watch.state)
        for name, value in watch.evidence.items():
            self.evidence.labels(name).set(value)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - an extra

        return generate_latest(self.registry)
