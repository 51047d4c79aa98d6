"""Load on a guard in service: every answer is compared with the model's own, batched and one at a time.

    .venv/bin/python benchmark/serve_load.py GUARD --requests 2000 --clients 32

GUARD is a folder of `detrojan guard calibrate`, set up with `--data signs`. The service runs in a process
of its own, so its memory is its own. Printed are requests a second, latencies, and the memory after each
quarter.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from detrojan.data.drawn.signs import draw_signs
from detrojan.guards.bundle import load_bundle

_HEADER = "Inference-Header-Content-Length"


@contextmanager
def started(guard: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a service; hand out its process and its port."""
    command = [sys.executable, "-m", "detrojan", "serve", guard, "--port", "0", "--threads", "1", *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - this Python's own detrojan
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if found := re.search(r'"url": "http://127\.0\.0\.1:(\d+)"', line):
            port = int(found[1])
            break
    if not port:
        raise SystemExit(f"expected the service to start, got exit code {process.wait()}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield process, port
    process.send_signal(signal.SIGTERM)
    if process.wait(60) != 0:
        raise SystemExit(f"expected the service to end with 0, got {process.returncode}")


@contextmanager
def served(guard: str, batch: int) -> Iterator[tuple[int, int]]:
    """Start a service; hand out its port and its process's number."""
    with started(guard, "--batch", str(batch), "--delay", "5" if batch > 1 else "0") as (process, port):
        yield port, process.pid


def memory(process: int) -> float:
    """Return the megabytes that a process holds."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def ask(connection: http.client.HTTPConnection, image: np.ndarray) -> tuple[np.ndarray, float]:
    """Send one image in binary; return its probabilities and its score."""
    content = image.tobytes()
    given = {"name": "images", "datatype": "FP32", "shape": [1, *image.shape]}
    head = json.dumps(
        {
            "inputs": [{**given, "parameters": {"binary_data_size": len(content)}}],
            "outputs": [{"name": "probabilities"}, {"name": "score"}],
        }
    ).encode()
    connection.request("POST", "/v2/models/model/infer", head + content, {_HEADER: str(len(head))})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise SystemExit(f"expected an answer, got {response.status}: {answer}")
    probabilities, score = (one["data"] for one in answer["outputs"])
    return np.asarray(probabilities), score[0]


def load(guard: str, batch: int, requests: int, clients: int) -> None:
    """Send requests from several clients, and print what came of it."""
    images = draw_signs(500, seed=909).images
    guarded = load_bundle(guard)
    shares, scores = guarded.model.probabilities(images).numpy(), guarded.score(images).numpy()
    seconds, wrong, sizes = list[float](), list[int](), list[float]()
    numbers, lock = iter(range(requests)), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % (requests // 4) == 0:
                    sizes.append(memory(process))
            if number is None:
                return
            began = time.monotonic()
            answer, score = ask(connection, images[number % 500].numpy())
            seconds.append(time.monotonic() - began)
            right = np.allclose(answer, shares[number % 500], atol=1e-4)
            if not (right and abs(score - scores[number % 500]) < 1e-3):
                wrong.append(number)

    with served(guard, batch) as (port, process):
        began = time.monotonic()
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = time.monotonic() - began
        sizes.append(memory(process))
    cuts = statistics.quantiles(seconds, n=100)
    print(
        f"batch {batch:>3}: {len(seconds):,} answers, {len(wrong)} wrong, "
        f"{len(seconds) / whole:.0f} a second, "
        f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, "
        f"memory {', '.join(f'{size:.0f}' for size in sizes)} MB",
        flush=True,
    )
    if wrong or len(seconds) != requests:
        raise SystemExit("expected the model's own answer to every request")


def main() -> None:
    """Run the load with batches and without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("guard", help="the guard's folder")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 1])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for batch in asked.batch:
        load(asked.guard, batch, asked.requests, asked.clients)


if __name__ == "__main__":
    main()
