"""The service answers what the model answers, by every way in, and says why it refuses."""

import json
import socket
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from detrojan.serve.pictures import png

SHAPE = (1, 20, 20)
#: the beginning of a request
PARTIAL = (
    b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n{"
)
HEAD = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\n"


def binary(images, **more):
    """Return a request with its tensor behind the JSON, and the header."""
    content = images.numpy().tobytes()
    described = {
        "name": "images",
        "datatype": "FP32",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [described], **more}).encode()
    return head + content, {"Inference_Header_Content_Length": str(len(head))}


def test_the_protocol_describes_server_and_model(service):
    client = service.client
    assert client.get("/v2").json["name"] == "detrojan"
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").status == 200
    for path in ("/v2/models/model", "/v2/models/model/versions/1"):
        told = client.get(path).json
        assert told["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}]
        assert [one["name"] for one in told["outputs"]] == [
            "probabilities", "label", "score", "verdict", "reason",
        ]  # fmt: skip
        assert "0..1" in told["parameters"]["preprocessing"]
        assert client.get(f"{path}/ready").json == {"ready": True}


def test_json_is_answered_as_the_model_itself_does(service, world):
    images = torch.cat([world.clean[:3], world.rejected[:2]])
    answer = service.client.infer(images)
    assert answer.status == 200
    assert (answer.json["model_name"], answer.json["model_version"]) == ("model", "1")
    guard = world.guard
    expected = guard.model.probabilities(images).flatten()
    assert torch.allclose(torch.tensor(answer.output("probabilities")), expected, atol=1e-5)
    assert answer.output("label") == guard.model.answers(images).tolist()
    assert torch.allclose(torch.tensor(answer.output("score")).double(), guard.score(images), atol=1e-5)
    assert answer.output("verdict") == ["clean"] * 3 + ["backdoored"] * 2
    assert answer.output("reason") == [""] * 3 + ["score"] * 2


def test_binary_tensors_are_answered_in_binary(service, world):
    images = world.clean[:4]
    body, headers = binary(images, id="one", parameters={"binary_data_output": True})
    answer = service.client.post(body, **headers)
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    head, rest = json.loads(answer.body[:size]), answer.body[size:]
    assert head["id"] == "one"
    found = {}
    for one in head["outputs"]:
        length = one["parameters"]["binary_data_size"]
        found[one["name"]], rest = rest[:length], rest[length:]
    assert not rest
    expected = world.guard.model.probabilities(images)
    assert np.allclose(np.frombuffer(found["probabilities"], "<f4").reshape(4, -1), expected, atol=1e-5)
    assert np.frombuffer(found["label"], "<i8").tolist() == world.guard.model.answers(images).tolist()
    assert found["verdict"] == b"\x05\x00\x00\x00clean" * 4


def test_chosen_outputs_and_whole_numbers(service, world):
    image = (world.clean[:1] * 255).round()
    asked = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [1, *SHAPE],
        "data": image.int().flatten().tolist(),
    }
    answer = service.client.post({"inputs": [asked], "outputs": [{"name": "label"}]})
    assert [one["name"] for one in answer.json["outputs"]] == ["label"]
    assert answer.output("label") == world.guard.model.answers(image / 255).tolist()


@pytest.mark.parametrize("kind", ["clean", "rejected"])
def test_a_picture_is_answered_in_words(service, world, kind):
    image = getattr(world, kind)[0]
    answer = service.client.ask("POST", "/classify", png(image), Content_Type="image/png").json
    seen = (image[None] * 255).round() / 255
    assert answer["label"] == int(world.guard.model.answers(seen))
    assert answer["score"] == pytest.approx(float(world.guard.score(seen)), abs=1e-5)
    assert answer["verdict"] == ("clean" if kind == "clean" else "backdoored")


def bad_input(**changed):
    good = {"name": "images", "datatype": "FP32", "shape": [1, *SHAPE], "data": [0.5] * 400}
    return {"inputs": [{**good, **changed}]}


BAD = [
    ("no JSON", b"\x00\xff\x01", 400, "expected a request in JSON"),
    ("nothing", b"", 400, "expected a body"),
    ("deep", b"[" * 100_000, 400, "expected a request in JSON"),
    ("a list", b"[]", 400, "the request"),
    ("no inputs", {"inputs": []}, 400, "inputs"),
    ("another input", bad_input(name="x\u202ey"), 400, "expected one input called 'images', got x\\u202ey"),
    ("wrong shape", bad_input(shape=[1, 3, 20, 20]), 400, "shape [N, 1, 20, 20]"),
    ("negative shape", bad_input(shape=[-1, *SHAPE]), 400, "greater than or equal to 0"),
    ("no images", bad_input(shape=[0, *SHAPE], data=[]), 400, "N of 1 or more"),
    ("too many", bad_input(shape=[65, *SHAPE]), 413, "at most 64 images"),
    ("wrong dtype", bad_input(datatype="INT32"), 400, "datatype FP16, FP32, FP64, UINT8, got 'INT32'"),
    ("too few", bad_input(data=[0.5]), 400, "expected 400 numbers"),
    ("ragged", bad_input(data=[[0.5], [0.5, 0.5]]), 400, "a list of numbers"),
    ("texts", bad_input(data=["0.5"] * 400), 400, "a list of numbers"),
    ("truths", bad_input(data=[True] * 400), 400, "a list of numbers"),
    ("no data", bad_input(data=None), 400, "a list of numbers"),
    ("huge numbers", bad_input(data=[10**300] * 400), 400, "a list of numbers"),
    ("out of range", bad_input(data=[1.5] * 400), 400, "in [0, 1], got values from 1.5 to 1.5"),
    ("not a number", json.dumps(bad_input(data=[float("nan")] * 400)).encode(), 400, "got NaN"),
    ("infinite", b'{"inputs": [{"name": "images", "data": [1e999]}]}', 400, "inputs.0.shape"),
    ("no such output", {**bad_input(), "outputs": [{"name": "secret"}]}, 400, "expected outputs out of"),
    ("bytes", bad_input(datatype="UINT8", data=[256] * 400), 400, "whole numbers of 0 to 255"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_malformed_is_refused_with_a_sentence(service, body, status, says):
    answer = service.client.post(body)
    assert answer.status == status
    assert set(answer.json) == {"error"}
    assert says in answer.json["error"]
    assert len(answer.body) < 600


def test_binary_data_that_are_not_what_is_stated_are_refused(service, world):
    body, headers = binary(world.clean[:2])
    half = service.client.post(body[:-100], **headers)
    assert (half.status, "expected 3,200 bytes" in half.json["error"]) == (400, True)
    for length in ("-1", "99999999", "x", "\u0661", "9" * 30):
        answer = service.client.post(body, Inference_Header_Content_Length=length.encode().decode("latin-1"))
        assert answer.status == 400
        assert "Inference-Header-Content-Length" in answer.json["error"]
    not_finite, headers = binary(torch.full((1, *SHAPE), float("nan")))
    assert "in [0, 1], got values from nan" in service.client.post(not_finite, **headers).json["error"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), length=st.none() | st.integers(-5, 400))
def test_no_body_leads_to_a_fault_of_the_server(service, body, length):
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    assert service.client.post(body, **headers).status == 400


@pytest.mark.parametrize("body", [b"", b"x", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_picture_is_refused(service, body):
    answer = service.client.post(body, "/classify", Content_Type="image/png")
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert (
        service.client.post(png(torch.zeros(1, 20, 20)), "/classify", Content_Type="text/html").status == 400
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/models/other", 404), ("GET", "/v2/models/model/versions/2", 404), ("GET", "/nowhere", 404),
     ("GET", "/v2/models/model/infer", 405), ("POST", "/v2/models/other/infer", 404),
     ("POST", "/v2/models/model/versions/2/infer", 404)],
)  # fmt: skip
def test_what_is_not_there_is_said_in_json(service, method, path, status):
    answer = service.client.ask(method, path, b"{}" if method == "POST" else None)
    assert answer.status == status
    assert set(answer.json) == {"error"}


def test_another_host_and_an_encoding_are_refused(service):
    assert service.client.ask("GET", "/state", Host="evil.example").status == 421
    assert service.client.ask("GET", "/v2/health/live", Host="evil.example").status == 200
    assert service.client.post(b"x", Content_Encoding="gzip").status == 415


def test_nothing_so_far_was_a_fault_of_the_server(service):
    assert service.client.infer(torch.full((1, *SHAPE), 0.5)).status == 200
    assert [event for event in service.events if event["level"] == "error"] == []
    metrics = service.client.get("/metrics").body.decode()
    assert 'status="5' not in metrics
    assert 'detrojan_refused_total{reason="malformed"}' in metrics
    assert 'detrojan_rejected_total{reason="score"}' in metrics
    assert "detrojan_score_bucket" in metrics


def test_a_token_is_asked_for(world, serving):
    with serving(world.guard, token="long-enough") as found:
        for path in ("/v2", "/state", "/metrics", "/v2/models/model"):
            assert found.client.get(path).status == 401
        for path in ("/", "/page.js", "/v2/health/ready"):
            assert found.client.get(path).status == 200
        assert found.client.ask("GET", "/state", Authorization="Bearer wrong").status == 401
        assert found.client.ask("GET", "/state", Authorization="Bearer long-enough").status == 200


def test_large_bodies_and_slow_ones_are_cut_off(world, serving):
    with serving(world.guard, body=0.01, timeout=0.5) as found:
        answer = found.client.post(b"x" * 20_000)
        assert (answer.status, "10,485 bytes" in answer.json["error"]) == (413, True)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", found.server.port)) as slow:
            slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 5
        with socket.create_connection(("127.0.0.1", found.server.port)) as long:
            long.sendall(
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
                 b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"2000\r\n" + b"x" * 8192 + b"\r\n"
            )  # fmt: skip
            assert long.recv(1000).startswith(b"HTTP/1.1 413")
        assert found.client.infer(world.clean[:1]).status == 200


def test_who_leaves_in_the_middle_is_no_fault(world, serving):
    with serving(world.guard) as found:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", found.server.port)) as gone:
                gone.sendall(PARTIAL)
        assert found.client.infer(world.clean[:1]).status == 200
        assert [event for event in found.events if event["level"] == "error"] == []


def test_blocking_does_not_answer_rejected_inputs(world, serving):
    mixed = torch.cat([world.clean[:1], world.rejected[:1]])
    with serving(world.guard, mode="block") as found:
        answer = found.client.infer(mixed)
        assert answer.status == 422
        assert answer.json == {"error": "the guard rejects 1 of 2 inputs as backdoored: 1"}
        answer = found.client.infer(world.clean[:2])
        assert [one["name"] for one in answer.json["outputs"]] == ["probabilities", "label"]
        picture = found.client.ask("POST", "/classify", png(world.rejected[0]), Content_Type="image/png")
        assert picture.status == 422


def test_blocking_may_answer_with_one_class_more(world, serving):
    mixed = torch.cat([world.clean[:1], world.rejected[:1]])
    classes = world.guard.model.num_classes
    with serving(world.guard, mode="block", blocked="class") as found:
        answer = found.client.infer(mixed)
        assert answer.output("label") == world.guard.answers_with_class(mixed).tolist()
        assert answer.output("probabilities")[-classes - 1 :] == [0.0] * classes + [1.0]
        assert found.client.get("/v2/models/model").json["outputs"][0]["shape"] == [-1, classes + 1]
        picture = found.client.ask("POST", "/classify", png(world.rejected[0]), Content_Type="image/png").json
        assert picture == {"label": classes, "class_name": "backdoored", "probability": 1.0}


def test_a_shadow_answers_as_the_model_does_and_logs(world, serving):
    with serving(world.guard, mode="shadow") as found:
        answer = found.client.infer(world.rejected[:1])
        assert answer.output("label") == world.guard.model.answers(world.rejected[:1]).tolist()
        assert [one["name"] for one in answer.json["outputs"]] == ["probabilities", "label"]
        told = [event for event in found.events if event["event"] == "rejected"]
        assert len(told) == 1
        assert told[0]["reason"] == "score"
        assert "[" not in found.log.getvalue(), "a log line holds no list of pixels"
