"""Load on a guard before another server, which is killed and started again in mid-load; and SIGTERM.

    .venv/bin/python benchmark/serve_upstream.py GUARD --requests 600 --clients 32

GUARD is a folder of `detrojan guard calibrate`, set up with `--data signs`. Its model is put behind a server
of the Open Inference Protocol, in a process of its own. Another guard is calibrated through the wire, and
stands before it. Each client compares each answer with the model's own for its image, and sends what was
refused again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from serve_load import started

from detrojan.data.drawn.signs import draw_signs
from detrojan.guards.bundle import load_bundle

_HEADER = "Inference-Header-Content-Length"
_PATH = "/v2/models/signs/infer"
#: seconds that the upstream stays away
AWAY = 2.0


def be_upstream(guard: str, port: int) -> None:
    """Answer as the upstream until killed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from v2_server import Served, serving  # type: ignore[import-not-found]  # noqa: PLC0415 - of the tests

    torch.set_num_threads(1)
    model = load_bundle(guard).model

    def answer(given: np.ndarray) -> np.ndarray:
        return model.probabilities(torch.from_numpy(given.copy())).numpy()

    served = Served(answer, (-1, *model.input_shape), binary=True, outputs=("scores", "copy"))
    with serving(served, port):
        threading.Event().wait()


class UpstreamProcess:
    """The upstream in a process of its own, on one port all the time."""

    def __init__(self, guard: str) -> None:
        self.guard = guard
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = [sys.executable, __file__, self.guard, "--be-upstream", str(self.port)]
        self.process = subprocess.Popen(words)  # noqa: S603 - this very file
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise SystemExit("expected the upstream to start")

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait()


class Clients:
    """Clients that ask until all numbers are answered, and what came of it."""

    def __init__(self, port: int, images: np.ndarray, expected: np.ndarray, requests: int) -> None:
        self.port, self.images, self.expected = port, images, expected
        self._numbers, self._lock = iter(range(requests)), threading.Lock()
        self.wrong, self.seconds = list[int](), list[float]()
        self.refused, self.refusals = Counter[int](), list[float]()
        self.lost = list[str]()
        self.latest = 0.0

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> tuple[int, bool]:
        image = self.images[number % len(self.images)][None]
        content = image.tobytes()
        given = {"name": "images", "datatype": "FP32", "shape": list(image.shape)}
        outputs = [{"name": name} for name in ("scores", "copy", "guard_verdict")]
        stated = {"inputs": [{**given, "parameters": {"binary_data_size": len(content)}}], "outputs": outputs}
        head = json.dumps({**stated, "id": str(number)}).encode()
        connection.request("POST", _PATH, head + content, {_HEADER: str(len(head))})
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            return response.status, True
        found = {one["name"]: one["data"] for one in answer["outputs"]}
        right = [
            np.allclose(found[n], self.expected[number % len(self.images)], atol=1e-4)
            for n in ("scores", "copy")
        ]
        return 200, all(right) and answer["id"] == str(number) and len(found["guard_verdict"]) == 1

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            while True:
                began = time.monotonic()
                try:
                    status, right = self._ask(connection, number)
                except OSError as error:
                    self.lost.append(f"{type(error).__name__}: {error}")
                    return
                took = time.monotonic() - began
                if status == 200:
                    self.seconds.append(took)
                    self.latest = time.monotonic()
                    if not right:
                        self.wrong.append(number)
                    break
                self.refused[status] += 1
                self.refusals.append(took)
                time.sleep(0.1)

    def start(self, count: int) -> None:
        """Start so many clients."""
        self.threads = [threading.Thread(target=self._run) for _ in range(count)]
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()

    def wait_for(self, answers: int) -> None:
        """Return when so many answers are there."""
        while len(self.seconds) < answers and any(thread.is_alive() for thread in self.threads):
            time.sleep(0.01)

    def join(self) -> float:
        """Wait for the end; return the seconds that it took."""
        for thread in self.threads:
            thread.join()
        return time.monotonic() - self.began


def said(name: str, clients: Clients, whole: float, requests: int) -> None:
    """Print what came of a load, and end where an answer is wrong or missing."""
    cuts = statistics.quantiles(clients.seconds, n=100)
    refused = ", ".join(f"{count} x {status}" for status, count in sorted(clients.refused.items())) or "none"
    slowest = max(clients.refusals, default=0.0)
    print(
        f"{name}: {len(clients.seconds):,} answers of {requests:,}, {len(clients.wrong)} wrong, "
        f"{len(clients.seconds) / whole:.0f} a second, p50 {cuts[49] * 1000:.0f} ms, "
        f"p99 {cuts[98] * 1000:.0f} ms, refused: {refused}, the slowest after {slowest:.2f} s",
        flush=True,
    )
    if clients.wrong or clients.lost or len(clients.seconds) != requests:
        raise SystemExit(f"expected the model's own answer to every request, got {clients.lost[:3]}")


@contextmanager
def proxied(upstream: UpstreamProcess, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Calibrate a guard through the wire, and put it before the upstream; hand out process and port."""
    url = f"http://127.0.0.1:{upstream.port}"
    calibrate = [
        sys.executable, "-m", "detrojan", "guard", "calibrate", "signs", "--url", url, "--output", "scores",
        "--data", "signs", "--samples", "300", "--set", "copies=20", "--out", str(folder / "guard"),
    ]  # fmt: skip
    subprocess.run(calibrate, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this Python's own detrojan
    with started(str(folder / "guard"), "--upstream", url, "--upstream-timeout", "5") as found:
        yield found


def main() -> None:
    """Run the load, then with a kill of the upstream, then with SIGTERM for the service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("guard", help="the guard's folder")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--be-upstream", type=int, metavar="PORT", help="be the upstream, nothing else")
    asked = parser.parse_args()
    if asked.be_upstream:
        be_upstream(asked.guard, asked.be_upstream)
        return
    torch.set_num_threads(1)
    images = draw_signs(500, seed=909).images
    expected = load_bundle(asked.guard).model.probabilities(images).numpy()
    upstream = UpstreamProcess(asked.guard)
    with tempfile.TemporaryDirectory() as place:
        try:
            with proxied(upstream, Path(place)) as (process, port):
                clients = Clients(port, images.numpy(), expected, asked.requests)
                clients.start(asked.clients)
                said("upstream stays", clients, clients.join(), asked.requests)
                clients = Clients(port, images.numpy(), expected, asked.requests)
                clients.start(asked.clients)
                clients.wait_for(asked.requests // 3)
                upstream.kill()
                time.sleep(AWAY)
                upstream.start()
                again, before = time.monotonic(), len(clients.seconds)
                clients.wait_for(before + 1)
                print(f"first answer {clients.latest - again:.2f} s after the upstream listens again")
                said("upstream killed", clients, clients.join(), asked.requests)
                clients = Clients(port, images.numpy(), expected, asked.requests)
                clients.start(asked.clients)
                clients.wait_for(asked.requests // 3)
                process.send_signal(signal.SIGTERM)
                whole = clients.join()
                code = process.wait(60)
                print(
                    f"SIGTERM: exit code {code}, {len(clients.seconds)} answers, {len(clients.wrong)} wrong, "
                    f"refused {dict(clients.refused)}, {len(clients.lost)} clients found it gone, "
                    f"{whole:.1f} s; {Counter(text.partition(':')[0] for text in clients.lost)}"
                )
        finally:
            upstream.kill()


if __name__ == "__main__":
    main()
