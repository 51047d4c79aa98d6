"""A service under load: it sends away what it cannot take, recovers, and ends in order."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from detrojan.errors import InputError, MissingExtraError
from detrojan.serve.options import ServeOptions
from detrojan.serve.server import Server


def test_many_clients_get_the_right_answers_in_shared_batches(world, serving):
    with serving(world.guard, delay=20) as found:

        def ask(number):
            image = world.clean[number % len(world.clean)][None]
            return number, found.client.infer(image)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(120)))
        expected = world.guard.model.probabilities(world.clean)
        for number, answer in answers:
            got = torch.tensor(answer.output("probabilities"))
            assert torch.allclose(got, expected[number % len(world.clean)], atol=1e-5)
        sizes = [
            float(value)
            for value in re.findall(
                r"^detrojan_batch_images_(?:count|sum) (\S+)$",
                found.client.get("/metrics").body.decode(),
                re.MULTILINE,
            )
        ]
        assert sizes[1] == 120
        assert sizes[0] < 60


def test_an_overload_is_answered_fast_and_passes(world, serving, monkeypatch):
    slowly = type(world.guard).score

    def score(guard, images):
        time.sleep(0.05)
        return slowly(guard, images)

    monkeypatch.setattr(type(world.guard), "score", score)
    with serving(world.guard, queue=4, batch=1, delay=0) as found:

        def ask(_):
            began = time.monotonic()
            answer = found.client.infer(world.clean[:1])
            return answer, time.monotonic() - began

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(48)))
        taken = [answer for answer, _ in answers if answer.status == 200]
        away = [(answer, seconds) for answer, seconds in answers if answer.status == 503]
        assert len(taken) + len(away) == 48
        assert min(len(taken), len(away)) > 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer, _ in away)
        assert sorted(seconds for _, seconds in away)[len(away) // 2] < 0.5
        assert found.client.infer(world.clean[:1]).status == 200
        assert 'detrojan_refused_total{reason="busy"}' in found.client.get("/metrics").body.decode()


def test_too_many_requests_at_one_time_are_sent_away(world, serving, monkeypatch):
    release = threading.Event()
    score = type(world.guard).score
    monkeypatch.setattr(
        type(world.guard), "score", lambda guard, images: release.wait(10) and score(guard, images)
    )
    with serving(world.guard, requests=1) as found, ThreadPoolExecutor(1) as pool:
        first = pool.submit(found.client.infer, world.clean[:1])
        time.sleep(0.3)
        assert found.client.infer(world.clean[:1]).status == 503
        assert found.client.get("/v2/health/live").status == 200
        release.set()
        assert first.result().status == 200


@pytest.fixture
def process(folder):
    """The command line in a process of its own, once it listens; its port."""
    code = "from detrojan.cli.main import main; main()"
    started = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(folder), "--threads", "1", "--delay", "30"],
        env=os.environ | {"DETROJAN_SERVE_PORT": "0", "DETROJAN_SERVE_GRACE": "0.5", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in started.stderr:
        lines.append(line)
        if '"serving"' in line:
            break
    else:
        pytest.fail("".join(lines))
    yield started, int(re.search(r":(\d+)\"", line)[1])
    started.kill()
    started.wait()
    started.stderr.close()


@pytest.mark.exact
def test_sigterm_under_load_answers_all_that_was_accepted(process, service, world):
    started, port = process
    client = type(service.client)(port)
    stopping, asked, results = threading.Event(), [], []

    def ask(number):
        while not stopping.is_set():
            image = (number + len(asked)) % len(world.clean)
            asked.append(image)
            results.append((image, client.infer(world.clean[image][None])))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while len(results) < 40:
        time.sleep(0.01)
    started.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    ready = client.get("/v2/health/ready")
    stopping.set()
    for thread in threads:
        thread.join(20)
    rest = started.stderr.read()
    assert started.wait(20) == 0
    assert (ready.status, ready.headers["connection"]) == (503, "close")
    assert len(results) == len(asked)
    expected = world.guard.model.probabilities(world.clean)
    for image, answer in results:
        assert answer.status == 200
        assert torch.allclose(torch.tensor(answer.output("probabilities")), expected[image], atol=1e-4)
    events = [json.loads(line) for line in rest.splitlines()]
    assert events[-1]["event"] == "stopped"
    assert events[-1]["inputs"] == len(asked)


def test_an_address_that_is_taken_is_an_error(world, service):
    with pytest.raises(InputError, match=r"cannot listen at 127\.0\.0\.1"):
        Server(world.guard, ServeOptions(guard="", port=service.server.port))


def test_a_missing_library_names_the_command(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[serve\]"'):
        Server(world.guard, ServeOptions(guard="", port=0))
