"""The live page: its files, and what they show."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from statistics import quantiles
from typing import Any

from detrojan.serve.service import Service
from detrojan.serve.tensors import finite
from detrojan.serve.watch import ADVICE


@cache
def _content(name: str) -> bytes:
    return files("detrojan.serve").joinpath(name).read_bytes()


#: the paths of the page, each with what makes its content, and its kind
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "/": (partial(_content, "page.html"), "text/html; charset=utf-8"),
    "/page.css": (partial(_content, "page.css"), "text/css; charset=utf-8"),
    "/page.js": (partial(_content, "page.js"), "text/javascript; charset=utf-8"),
}


def page_state(service: Service) -> dict[str, Any]:
    """Return what the page shows, as JSON can hold it."""
    guard, model, watch = service.guard, service.model, service.watch
    shape = " x ".join(map(str, model.input_shape))
    seconds = sorted(service.seconds)
    cuts = quantiles(seconds, n=100) if len(seconds) > 1 else []
    batcher = service.batcher
    clean = sorted(guard.clean_scores.tolist())
    return {
        "now": time.time(),
        "started": service.started,
        "ready": service.open,
        "mode": service.options.mode,
        "state": watch.state,
        "advice": ADVICE[watch.state],
        "evidence": watch.evidence,
        "alarm_every": service.options.alarm_every,
        "inputs": watch.counted.inputs,
        "rejected": watch.counted.rejected,
        "usual_rejected": watch.usual_rejected,
        "waiting": 0 if batcher is None else batcher.waiting,
        "p50": cuts[49] if cuts else None,
        "p99": cuts[98] if cuts else None,
        "boundary": guard.threshold,
        "clean": clean[:: max(1, len(clean) // 200)],
        "points": [[point.at, finite(point.score), point.rejected] for point in service.points],
        "explains": service.explains,
        "size": list(model.input_shape[1:]),
        "latest": [
            {
                "at": one.at,
                "score": finite(one.score),
                "label": service.named(one.label),
                "reason": one.reason,
                "number": one.number,
                "png": None if one.image is None else base64.b64encode(one.image).decode(),
            }
            for one in reversed(service.keeper.latest)
        ],
        "facts": {
            "Model": model.origin.net or model.origin.format,
            **({"SHA-256": model.origin.sha256[:16]} if model.origin.sha256 else {}),
            **({} if service.upstream is None else {"Answered by": f"{service.upstream.name}, upstream"}),
            "Input": shape,
            "Classes": str(model.num_classes),
            "Preprocessing": str(model.preprocessing),
            "Guard": guard.method.name,
            "Score": f"{'minus the ' if guard.sign < 0 else ''}{guard.statistic}",
            "Boundary": f"{guard.threshold:.4g}",
            "Clean inputs of the calibration": f"{len(guard.clean_scores):,}",
            "Clean inputs rejected, at most": f"{watch.usual_rejected:.2%}",
        },
        "warnings": list(guard.warnings),
    }
