"""Another server's model behind the guard: its own answers, and a clear word where it has none."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from blobs import SIDE, blobs
from detrojan.errors import EndpointError, ModelError, OptionError
from detrojan.guards.bundle import save_bundle
from detrojan.guards.strip import Strip
from detrojan.models.endpoint import open_endpoint
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.serve.opening import open_guard
from detrojan.serve.options import ServeOptions
from detrojan.serve.pictures import png
from v2_server import Served, serving as upstream_serving

TOKEN = "of-the-upstream"
#: what the upstream's network is fed with: as a Keras network, from -1 to 1, colours last
PREPARED = Preprocessing(low=-1.0, layout="NHWC")
INFER = "/v2/models/blobs/infer"


@dataclass
class Before:
    """A guard calibrated through the wire, its upstream, and where that listens."""

    folder: object
    served: Served
    url: str

    def opened(self, **more):
        options = {"upstream_timeout": 5.0, "upstream_wait": 0.0, **more}
        return open_guard(ServeOptions(guard=self.folder, upstream=self.url, upstream_token=TOKEN, **options))


@pytest.fixture(scope="module")
def before(world, tmp_path_factory):
    """The upstream listens for all tests of the file; each leaves it as it was."""
    model = world.guard.model

    def answer(given):
        images = (torch.from_numpy(given.copy()).permute(0, 3, 1, 2) + 1) / 2
        return model.probabilities(images).numpy()

    shape = (-1, SIDE, SIDE, 1)
    served = Served(
        answer, shape, binary=True, name="blobs", outputs=("scores", "aux"), texts="named", token=TOKEN
    )
    with upstream_serving(served) as url:
        asked = open_endpoint(url, "blobs", output="scores", preprocessing=PREPARED, token=TOKEN)
        guard = Strip(copies=10, frr=0.02, mode="blend").calibrate(asked, blobs(120, 5), run=Run(seed=0))
        folder = save_bundle(guard, tmp_path_factory.mktemp("before") / "guard")
        yield Before(folder, served, url)


@contextmanager
def _running(before, serving, **settings):
    guard, upstream = before.opened(**settings)
    more = {"upstream_timeout": 5.0, "upstream": before.url, **settings}
    with serving(guard, upstream, **more) as found:
        yield found


@pytest.fixture(scope="module")
def proxy(before, serving):
    with _running(before, serving) as found:
        yield found


def asked(images, *, binary=False, outputs=None, **changed):
    """Return body and headers of a request as the upstream takes it."""
    values = PREPARED.arranged(images * 2 - 1).contiguous().numpy()
    given = {"name": "images", "datatype": "FP32", "shape": list(values.shape), **changed}
    more = {} if outputs is None else {"outputs": outputs}
    if not binary:
        return json.dumps({"inputs": [{**given, "data": values.ravel().tolist()}], **more}).encode(), {}
    given["parameters"] = {"binary_data_size": values.nbytes}
    more["parameters"] = {"binary_data_output": True}
    head = json.dumps({"inputs": [given], **more}).encode()
    return head + values.tobytes(), {"Inference_Header_Content_Length": str(len(head))}


def infer(found, images, path=INFER, **how):
    body, headers = asked(images, **how)
    return found.client.post(body, path, **headers)


def test_the_upstreams_model_is_described_and_no_other(proxy, before):
    told = proxy.client.get("/v2/models/blobs").json
    assert told["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, SIDE, SIDE, 1]}]
    assert [one["name"] for one in told["outputs"]] == [
        "scores", "aux", "named", "guard_score", "guard_verdict", "guard_reason",
    ]  # fmt: skip
    assert proxy.client.get("/v2/health/ready").status == 200
    seen = len(before.served.paths)
    for path in ("/v2/models/other", "/v2/models/..%2Fother", "/v2/models/blobs/config", "/v2/repository"):
        assert proxy.client.get(path).status == 404
    assert proxy.client.post({}, "/v2/models/other/infer").status == 404
    assert before.served.paths[seen:] == []


@pytest.mark.parametrize("upstream_binary", [True, False])
def test_json_gets_all_of_the_upstreams_outputs_and_the_verdicts(
    proxy, before, world, monkeypatch, upstream_binary
):
    images = torch.cat([world.clean[:3], world.rejected[:3]])
    upstream = proxy.server.service.upstream
    monkeypatch.setattr(upstream, "binary", upstream_binary)
    answer = infer(proxy, images)
    assert answer.status == 200
    assert (answer.json["model_name"], answer.json["model_version"]) == ("blobs", "7")
    expected = world.guard.model.probabilities(images)
    for name in ("scores", "aux"):
        assert torch.allclose(torch.tensor(answer.output(name)), expected.flatten(), atol=1e-5)
    assert answer.output("named") == [f"is {label}" for label in expected.argmax(1).tolist()]
    guard = proxy.server.service.guard
    score, refused = guard.score(images), guard.refuses(images).tolist()
    assert answer.output("guard_verdict") == ["backdoored" if bad else "clean" for bad in refused]
    assert set(refused[3:]) == {True}
    assert torch.allclose(torch.tensor(answer.output("guard_score")).double(), score, atol=1e-4)


@pytest.fixture(scope="module")
def clean(proxy, world):
    """Clean images that the guard lets pass."""
    return world.clean[~proxy.server.service.guard.refuses(world.clean)]


def test_binary_gets_the_same_in_binary(proxy, world, clean):
    answer = infer(proxy, clean[:2], binary=True)
    size = int(answer.headers["inference-header-content-length"])
    head, rest, found = json.loads(answer.body[:size]), answer.body[size:], {}
    for one in head["outputs"]:
        length = one["parameters"]["binary_data_size"]
        found[one["name"]], rest = rest[:length], rest[length:]
    assert not rest
    expected = world.guard.model.probabilities(clean[:2])
    assert np.allclose(np.frombuffer(found["scores"], "<f4").reshape(2, -1), expected, atol=1e-5)
    assert found["named"][:4] == b"\x04\x00\x00\x00"
    assert found["guard_verdict"] == b"\x05\x00\x00\x00clean" * 2


def test_chosen_outputs_come_in_their_order(proxy, world):
    wanted = [{"name": "guard_reason"}, {"name": "named"}]
    answer = infer(proxy, world.clean[:1], outputs=wanted)
    assert [one["name"] for one in answer.json["outputs"]] == ["guard_reason", "named"]
    answer = infer(proxy, world.clean[:1], outputs=[{"name": "secret"}])
    assert (answer.status, "expected outputs out of scores, aux, named" in answer.json["error"]) == (
        400,
        True,
    )


def test_what_the_upstream_does_not_take_never_reaches_it(proxy, before, world):
    seen = len(before.served.seen)
    for changed, says in (
        ({"name": "other"}, "expected one input called 'images'"),
        ({"datatype": "UINT8"}, "datatype FP32"),
        ({"shape": [1, 1, SIDE, SIDE]}, f"shape [N, {SIDE}, {SIDE}, 1]"),
    ):
        answer = infer(proxy, world.clean[:1], **changed)
        assert (answer.status, says in answer.json["error"]) == (400, True)
    for images in (torch.full((1, 1, SIDE, SIDE), 1.2), torch.full((1, 1, SIDE, SIDE), float("nan"))):
        answer = infer(proxy, images, binary=True)
        assert (answer.status, "black to white" in answer.json["error"]) == (400, True)
    assert len(before.served.seen) == seen


def test_a_picture_is_answered_in_words(proxy, world, clean):
    image = clean[0]
    answer = proxy.client.ask("POST", "/classify", png(image), Content_Type="image/png").json
    assert answer["label"] == int(world.guard.model.answers((image[None] * 255).round() / 255))
    assert answer["verdict"] == "clean"


def test_many_clients_get_their_own_answers(proxy, world):
    def ask(number):
        return number, infer(
            proxy, world.clean[number][None], binary=number % 2 == 0, outputs=[{"name": "aux"}]
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    expected = world.guard.model.probabilities(world.clean).numpy()
    for number, answer in answers:
        assert answer.status == 200
        size = int(answer.headers.get("inference-header-content-length", 0))
        got = np.frombuffer(answer.body[size:], "<f4") if size else np.array(answer.output("aux"))
        assert np.allclose(got, expected[number], atol=1e-4)


def test_numbers_that_are_not_finite_reject_their_own_input_alone(proxy, before, world, monkeypatch):
    usual, bad = before.served.answer, world.clean[1]

    def answer(given):
        scores = usual(given)
        brightest = given.reshape(len(given), -1).max(1)
        return np.where((brightest > 0.999)[:, None], np.nan, scores)

    monkeypatch.setattr(before.served, "answer", answer)
    bad = bad.clone()
    bad[0, 0, 0] = 1.0
    answer = infer(proxy, torch.stack([world.clean[0], bad, world.clean[2]]))
    assert answer.output("guard_reason")[1] == "overflow"
    assert None not in answer.output("guard_score")[::2]
    assert answer.output("guard_score")[1] is None
    assert answer.output("scores")[6:12] == [None] * 6


def test_a_rejected_input_is_not_sent_on_in_mode_block(before, serving, world, clean):
    with _running(before, serving, mode="block") as found:
        rejected = found.server.service.guard.refuses(world.rejected)
        answer = infer(found, world.rejected[rejected][:1])
        assert (answer.status, "rejects 1 of 1" in answer.json["error"]) == (422, True)
        answer = infer(found, clean[:1])
        assert [one["name"] for one in answer.json["outputs"]] == ["scores", "aux", "named"]
    with pytest.raises(OptionError, match="expected --blocked error with --upstream"):
        before.opened(mode="block", blocked="class")


@pytest.mark.parametrize(
    ("changed", "status", "says"),
    [
        ({"status": [500] * 2}, 502, "expected the status 200, got 500"),
        ({"status": [400]}, 502, "expected the status 200, got 400"),
        ({"status": [503] * 2}, 503, "the upstream server is busy"),
        ({"moved": "http://127.0.0.1:9/elsewhere"}, 502, "expected the status 200, got 307"),
        ({"long": 2**26 + 1}, 502, "expected an answer of at most"),
        ({"reshape": lambda scores: scores[:0]}, 502, "something that is no answer of the model"),
        ({"reshape": lambda scores: scores[:, :2]}, 502, "something that is no answer of the model"),
    ],
    ids=["500", "400", "busy", "moved", "long", "empty", "other classes"],
)
def test_an_upstream_that_fails_is_a_502_and_passes(proxy, before, world, monkeypatch, changed, status, says):
    with monkeypatch.context() as patched:
        for name, value in changed.items():
            patched.setattr(before.served, name, value)
        answer = infer(proxy, world.clean[:1])
    assert (answer.status, set(answer.json)) == (status, {"error"})
    assert says in answer.json["error"]
    assert before.url not in answer.json["error"]
    assert infer(proxy, world.clean[:1]).status == 200


def _ready_within(found, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found.client.get("/v2/health/ready").status == 200:
            return True
        time.sleep(0.1)
    return False


def test_readiness_and_answers_follow_an_upstream_that_goes_and_comes_again(
    before, serving, world, monkeypatch
):
    served = before.served
    with ExitStack() as first:
        url = first.enter_context(upstream_serving(served))
        with _running(replace(before, url=url), serving, upstream_timeout=0.5) as found:
            assert infer(found, world.clean[:1]).status == 200
            with monkeypatch.context() as patched:
                patched.setattr(served, "ready", False)
                assert not _ready_within(found, 0.7)
                patched.setattr(served, "delay", 1.0)
                assert "no answer within 0.5 s" in infer(found, world.clean[:1]).json["error"]
            first.close()
            began = time.monotonic()
            answer = infer(found, world.clean[:1])
            assert (answer.status, "refused" in answer.json["error"]) == (502, True)
            assert time.monotonic() - began < 1
            time.sleep(0.6)
            assert found.client.get("/v2/models/blobs/ready").status == 503
            assert found.client.get("/v2/health/live").status == 200
            with upstream_serving(served, int(url.rpartition(":")[2])):
                assert _ready_within(found, 5)
                assert infer(found, world.clean[:1]).status == 200
            assert [event for event in found.events if event["level"] == "error"] == []


def test_the_guard_may_compute_with_its_own_copy_of_the_model(before, serving, world, folder):
    model = world.guard.model
    served = Served(
        lambda given: model.probabilities(torch.from_numpy(given.copy())).numpy(),
        (-1, 1, SIDE, SIDE),
        name="m",
        outputs=("aux", "scores"),
        texts="named",
    )
    with upstream_serving(served) as url:
        local = Before(folder, served, url)
        with pytest.raises(OptionError, match="expected --upstream-model NAME"):
            local.opened()
        with _running(local, serving, upstream_model="m", name="signs") as found:
            seen = sum(served.seen)
            body = json.dumps(
                {"inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 1, SIDE, SIDE],
                             "data": world.rejected[0].flatten().tolist()}]}
            ).encode()  # fmt: skip
            answer = found.client.post(body, "/v2/models/signs/infer")
            assert answer.output("guard_verdict") == ["backdoored"]
            assert sum(served.seen) - seen == 2, "the guard asked its own copy about the mixed images"
            expected = model.probabilities(world.rejected[:1]).flatten()
            assert torch.allclose(torch.tensor(answer.output("scores")), expected, atol=1e-5)
        usual, served.answer = served.answer, lambda given: usual(1 - given)
        with pytest.raises(ModelError, match="expected the answers of the guard's own copy"):
            local.opened(upstream_model="m")


def test_another_model_and_a_missing_server_are_refused_at_the_start(before):
    with pytest.raises(OptionError, match="expected the model blobs that the guard was calibrated on"):
        before.opened(upstream_model="other")
    with pytest.raises(OptionError, match="expected --upstream URL of the server"):
        open_guard(ServeOptions(guard=before.folder))
    with pytest.raises(EndpointError, match="refused"):
        replace(before, url="http://127.0.0.1:9").opened()
