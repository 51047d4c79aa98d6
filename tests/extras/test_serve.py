"""The service with the tools of others: Triton's client, schemathesis, OpenTelemetry, Ray Serve."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from detrojan.guards.bundle import save_bundle
from detrojan.serve import service as module
from detrojan.serve.pictures import png
from detrojan.serve.tracing import Tracing
from guard_service import Client, request, running, small_world

REASON = "not installed: make test-extras runs this"

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def needs(library):
    missing = importlib.util.find_spec(library.partition(".")[0]) is None
    return pytest.mark.skipif(missing, reason=f"{library} is {REASON}")


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def service(world):
    with running(world.guard) as found:
        yield found


@needs("tritonclient")
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_is_answered(service, world, binary):
    triton = importlib.import_module("tritonclient.http")
    client = triton.InferenceServerClient(f"127.0.0.1:{service.server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model", "1")
    assert client.get_server_metadata()["name"] == "detrojan"
    assert client.get_model_metadata("model")["inputs"][0]["shape"] == [-1, 1, 20, 20]
    images = world.clean[:3].numpy()
    asked = triton.InferInput("images", list(images.shape), "FP32")
    asked.set_data_from_numpy(images, binary_data=binary)
    for wanted in (None, [triton.InferRequestedOutput("label", binary_data=binary)]):
        answer = client.infer("model", [asked], outputs=wanted, request_id="one")
        assert answer.as_numpy("label").tolist() == world.guard.model.answers(world.clean[:3]).tolist()
    answer = client.infer("model", [asked])
    assert [str(one) for one in answer.as_numpy("verdict")] in (["b'clean'"] * 3, ["clean"] * 3)
    with pytest.raises(triton.InferenceServerException, match="expected the model model, got other"):
        client.infer("other", [asked])
    client.close()


@needs("schemathesis")
def test_the_document_holds_under_generated_requests(service, tmp_path):
    program = Path(sys.executable).parent / "schemathesis"
    done = subprocess.run(
        [
            str(program), "run", f"http://127.0.0.1:{service.server.port}/openapi.json",
            "--checks", CHECKS, "--max-examples", "40", "--seed", "1", "--phases",
            "examples,coverage,fuzzing", "--suppress-health-check", "all", "--no-color",
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d* generated", done.stdout), done.stdout[-3000:]
    assert [event for event in service.events if event["level"] == "error"] == []


@needs("opentelemetry.sdk")
def test_a_request_is_one_trace(world, monkeypatch):
    sdk, export, memory = (
        importlib.import_module(f"opentelemetry.sdk.trace{part}")
        for part in ("", ".export", ".export.in_memory_span_exporter")
    )
    kept, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(kept))
    monkeypatch.setattr(module, "tracing", lambda: Tracing(provider))
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    with running(world.guard, mode="block") as found:
        assert found.client.post(request(world.clean[:2]), traceparent=parent).status == 200
        assert found.client.post(request(world.rejected[:1])).status == 422
    spans = {span.name: span for span in kept.get_finished_spans()[:2]}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {parent.split("-")[1]}
    assert spans["judge"].parent.span_id == spans["infer"].context.span_id
    assert dict(spans["judge"].attributes) == {"images": 2, "rejected": 0}
    assert spans["infer"].attributes["http.response.status_code"] == 200
    refused = [span for span in kept.get_finished_spans() if span.name == "infer"][1]
    assert refused.attributes["http.response.status_code"] == 422


@pytest.fixture(scope="module")
def on_ray(world, tmp_path_factory):
    """Two replicas on Ray Serve on this machine; the client of its port."""
    folder = save_bundle(world.guard, tmp_path_factory.mktemp("ray") / "guard")
    programs = Path(sys.executable).parent
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        head, port = one.getsockname()[1], two.getsockname()[1]
    state = f"/tmp/rs{os.getpid()}"  # short: Ray puts sockets below it
    environment = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": f"127.0.0.1:{head}", "OMP_NUM_THREADS": "1",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip

    def call(*words):
        done = subprocess.run(
            [str(programs / words[0]), *map(str, words[1:])],
            env=environment, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]

    head_process = subprocess.Popen(
        [
            str(programs / "ray"), "start", "--head", "--block", "--port", str(head), "--node-ip-address",
            "127.0.0.1", "--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", state,
            "--object-store-memory", "80000000", "--disable-usage-stats",
        ],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not listens(head) and time.monotonic() < until:
            time.sleep(0.2)
        call("serve", "start", "--http-host", "127.0.0.1", "--http-port", port)
        call(
            "serve", "run", "--non-blocking", "detrojan.serve.on_ray:app", f"guard={folder}", "replicas=2",
            "delay=0",
        )  # fmt: skip
        yield Client(port)
    finally:
        ended(head_process)
        shutil.rmtree(state, ignore_errors=True)


def listens(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def ended(process):
    """End a process and those that it has started, and no others."""
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


@needs("ray")
def test_replicas_on_ray_give_the_models_own_answers(on_ray, world):
    def ask(number):
        return number, on_ray.infer(world.clean[number % len(world.clean)][None])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(60)))
    expected = world.guard.model.probabilities(world.clean)
    for number, answer in answers:
        assert answer.status == 200
        got = torch.tensor(answer.output("probabilities"))
        assert torch.allclose(got, expected[number % len(world.clean)], atol=1e-4)
    counts = set()
    until = time.monotonic() + 30
    while len(counts) < 2 and time.monotonic() < until:
        state = on_ray.get("/state").json
        counts.add((state["started"], state["inputs"]))
    assert len({started for started, _ in counts}) == 2, "two replicas, each with a state of its own"
    assert sum(inputs for _, inputs in counts) == 60
    assert on_ray.ask("POST", "/classify", png(world.rejected[0]), Content_Type="image/png").json[
        "verdict"
    ] == ("backdoored")
    assert on_ray.post(b"{").status == 400
