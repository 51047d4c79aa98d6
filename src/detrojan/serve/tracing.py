"""Traces of requests for OpenTelemetry, where its extra is installed and the environment names a collector.

The usual variables count: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` for the
collector, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, and `OTEL_SDK_DISABLED`.

No span has an image's contents.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from detrojan.extras import require

#: one of these names the collector
_COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """Makes spans, or does nothing.

    Args:
        provider: of OpenTelemetry; None for nothing.

    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("detrojan", version("detrojan"))

    @contextmanager
    def span(
        self, name: str, headers: Mapping[str, str] | None = None, **attributes: str | float
    ) -> Iterator[dict[str, Any]]:
        """Run the body within a span; what it puts into the dict it is handed becomes attributes.

        Args:
            name: of the span.
            headers: of a request that comes in; a trace that they name is gone on with.
            attributes: known from the beginning; "__" in a name stands for a dot.

        """
        more: dict[str, Any] = dict(attributes)
        if self._tracer is None:
            yield more
            return
        kinds = _part("trace").SpanKind
        kind = kinds.INTERNAL if headers is None else kinds.SERVER
        context = None if headers is None else _part("propagate").extract(dict(headers))
        with self._tracer.start_as_current_span(name, context=context, kind=kind) as span:
            try:
                yield more
            finally:
                span.set_attributes({key.replace("__", "."): value for key, value in more.items()})

    def carried(self) -> dict[str, str]:
        """Return the headers that hand the present trace on to another server."""
        found: dict[str, str] = {}
        if self._tracer is not None:
            _part("propagate").inject(found)
        return found

    def close(self) -> None:
        """Send what was not sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def tracing() -> Tracing:
    """Return what the environment asks for.

    Raises:
        MissingExtraError: it names a collector, and OpenTelemetry is not installed.

    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or not any(os.environ.get(name) for name in _COLLECTORS):
        return Tracing()
    exporting = _part("exporter.otlp.proto.http.trace_exporter")
    sdk, processing, resources = (_part(f"sdk.{name}") for name in ("trace", "trace.export", "resources"))
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "detrojan"}
    provider = sdk.TracerProvider(resource=resources.Resource.create(named))
    provider.add_span_processor(processing.BatchSpanProcessor(exporting.OTLPSpanExporter()))
    return Tracing(provider)


def _part(name: str) -> Any:
    return require(f"opentelemetry.{name}", extra="otel", what="traces")
