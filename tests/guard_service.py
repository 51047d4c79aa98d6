"""A guarded network in service on this machine, and a client of few lines."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from blobs import SIDE, TARGET, blobs, trained
from detrojan.attacks.badnets import BadNets
from detrojan.guards.base import Calibrated
from detrojan.guards.strip import Strip
from detrojan.run import Run
from detrojan.serve.log import logger
from detrojan.serve.options import ServeOptions
from detrojan.serve.server import Server
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def output(self, name: str) -> Any:
        """Return the data of an output that came as JSON."""
        return next(one["data"] for one in self.json["outputs"] if one["name"] == name)


@dataclass
class Client:
    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**self.headers, **named})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, answer.read(), found)
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, body: Any, path: str = "/v2/models/model/infer", **headers: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, content, **headers)

    def infer(self, images: torch.Tensor) -> Answer:
        return self.post(request(images))


def request(images: torch.Tensor, **more: Any) -> dict[str, Any]:
    """Return a request of the protocol in JSON."""
    given = {"name": "images", "datatype": "FP32", "shape": list(images.shape), "data": images.tolist()}
    return {"inputs": [given], **more}


@dataclass
class Running:
    server: Server
    client: Client
    log: io.StringIO

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@contextmanager
def running(guard: Calibrated, behind: Any = None, **settings: Any) -> Iterator[Running]:
    """Put a guard into service in a thread, on a free port, until the body has ended."""
    log = io.StringIO()
    options = ServeOptions(guard="", **{"port": 0, "grace": 0.0, **settings})
    server = Server(guard, options, logger(log), behind)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Running(server, Client(server.port), log)
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


@dataclass(frozen=True)
class World:
    """A guard, clean pictures, and stamped ones that it rejects."""

    guard: Calibrated
    clean: torch.Tensor
    rejected: torch.Tensor


def small_world() -> World:
    """Train a backdoored network of blobs, and set a guard up for it."""
    trigger = PatchTrigger.corner((1, SIDE, SIDE), size=4, margin=0)
    attack = BadNets(poison_rate=0.15, backdoors=(Backdoor(trigger=trigger, target=TARGET),))
    model = trained(attack.poison(blobs(1500, 1), run=Run(seed=3)).data)
    guard = Strip(copies=20, frr=0.02, mode="blend").calibrate(model, blobs(400, 5), run=Run(seed=0))
    test = blobs(300, 6)
    stamped = trigger.stamp(test.images[test.labels != TARGET])
    clean, rejected = test.images[~guard.refuses(test.images)], stamped[guard.refuses(stamped)]
    assert len(clean) > 100
    assert len(rejected) > 20
    return World(guard, clean, rejected)
