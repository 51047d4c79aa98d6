"""A small server of the Open Inference Protocol v2 on loopback, which can also misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

TYPES = {"FP32": "<f4", "UINT8": "<u1"}


@dataclass
class Served:
    """One model, and how it behaves.

    Attributes:
        answer: maps an array as the input has it to scores (N, K).
        shape: of the input.
        datatype: of the input.
        binary: whether tensors may travel as bytes.
        name: of the model.
        status: the statuses of the next answers, 200 once they are used up.
        delay: seconds before an answer.
        most: more images at once are refused with 413.
        outputs: names of the outputs; all get the same.
        reshape: what becomes of the scores.
        seen: how many images came with each request.
        texts: an output of texts, one for each image, that is answered in addition.
        ready: whether it says that it is ready.
        token: what clients have to send.
        moved: where it sends clients instead of answering.
        long: bytes that its answers have at least.
    """

    answer: Callable[[Any], Any]
    shape: tuple[int, ...]
    datatype: str = "FP32"
    binary: bool = False
    name: str = "signs"
    status: list[int] = field(default_factory=list)
    delay: float = 0.0
    most: int = 10**6
    outputs: tuple[str, ...] = ("scores",)
    reshape: Callable[[Any], Any] = lambda scores: scores
    seen: list[int] = field(default_factory=list)
    binary_seen: int = 0
    texts: str = ""
    ready: bool = True
    token: str = ""
    moved: str = ""
    long: int = 0
    paths: list[str] = field(default_factory=list)

    def metadata(self) -> dict[str, Any]:
        side = {"name": "images", "datatype": self.datatype, "shape": list(self.shape)}
        outputs = [{"name": name, "datatype": "FP32", "shape": [-1, -1]} for name in self.outputs]
        outputs += [{"name": self.texts, "datatype": "BYTES", "shape": [-1]}] if self.texts else []
        return {"name": self.name, "platform": "", "inputs": [side], "outputs": outputs}


class Handler(BaseHTTPRequestHandler):
    """Answers for `served`."""

    served: Served

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: bytes, head: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if head is not None:
            self.send_header("Inference-Header-Content-Length", str(head))
        self.end_headers()
        self.wfile.write(body)

    def away(self) -> bool:
        """Answer whoever may not ask, or is sent elsewhere."""
        self.served.paths.append(self.path)
        if self.served.token and self.headers["Authorization"] != f"Bearer {self.served.token}":
            self.reply(401, b'{"error": "who are you"}')
        elif self.served.moved:
            self.send_response(307)
            self.send_header("Location", self.served.moved)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            return False
        return True

    def do_GET(self) -> None:
        if self.away():
            return
        if self.path == f"/v2/models/{self.served.name}/ready":
            self.reply(200 if self.served.ready else 503, b"")
        elif self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.served.binary else []
            self.reply(200, json.dumps({"name": "test", "extensions": extensions}).encode())
        elif self.path == f"/v2/models/{self.served.name}":
            self.reply(200, json.dumps(self.served.metadata()).encode())
        else:
            self.reply(404, b'{"error": "unknown model"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.served.delay)
        if self.away():
            return
        if self.served.status:
            self.reply(self.served.status.pop(0), b'{"error": "out of memory"}')
            return
        cut = self.headers.get("Inference-Header-Content-Length")
        given = json.loads(body[: int(cut)] if cut else body)
        (tensor,) = given["inputs"]
        assert tensor["name"] == "images"
        kind = TYPES[tensor["datatype"]]
        if cut:
            self.served.binary_seen += 1
            images = np.frombuffer(body[int(cut) :], kind)
        else:
            images = np.asarray(tensor["data"], kind)
        images = images.reshape(tensor["shape"]).copy()
        self.served.seen.append(len(images))
        if len(images) > self.served.most:
            self.reply(413, b'{"error": "too many"}')
            return
        scores = self.served.reshape(np.asarray(self.served.answer(images), "<f4"))
        outputs, raw = [], b""
        default = given.get("parameters", {}).get("binary_data_output", False)
        every = [{"name": name} for name in (*self.served.outputs, self.served.texts) if name]
        for one in given.get("outputs", every):
            texts = one["name"] == self.served.texts
            said = [f"is {label}" for label in scores.argmax(1)]
            out = {
                "name": one["name"],
                "datatype": "BYTES" if texts else "FP32",
                "shape": [len(scores)] if texts else list(scores.shape),
            }
            if one.get("parameters", {}).get("binary_data", default):
                content = scores.tobytes()
                if texts:
                    content = b"".join(len(t).to_bytes(4, "little") + t.encode() for t in said)
                raw += content
                out["parameters"] = {"binary_data_size": len(content)}
            else:
                out["data"] = said if texts else scores.ravel().tolist()
            outputs.append(out)
        head = json.dumps({"model_name": self.served.name, "model_version": "7", "outputs": outputs}).encode()
        head += b" " * (self.served.long - len(head))
        self.reply(200, head + raw, len(head) if raw else None)


@contextmanager
def serving(served: Served, port: int = 0) -> Iterator[str]:
    """Serve on loopback while the body runs; gives the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", port), type("_Handler", (Handler,), {"served": served}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
