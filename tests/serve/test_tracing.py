"""Without a collector there are no traces; spans themselves are tested among those of other libraries."""

import sys

import pytest

from detrojan.errors import MissingExtraError
from detrojan.serve.tracing import tracing


def test_nothing_is_traced_unless_the_environment_names_a_collector(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    quiet = tracing()
    with quiet.span("judge", images=3) as told:
        told["rejected"] = 1
    assert quiet.carried() == {}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[otel\]"'):
        tracing()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing().carried() == {}
