"""A model behind a URL: asked by the Open Inference Protocol, version 2."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from detrojan.errors import ModelError
from detrojan.extras import require
from detrojan.models.blackbox import BlackBox
from detrojan.models.classifier import Origin
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.v2 import BINARY, Feed, answer, chosen, feed, read_json, request, tensors_of

log = logging.getLogger(__name__)

#: images in one request where the server names no limit, and the most values of it
IMAGES, VALUES = 64, 2**21
#: no answer is longer, in bytes
_MOST_ANSWER = 2**26
#: what a server says while it is busy or starting
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_LARGE = 413


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds for one answer; above 0.
        tries: how often a request is sent; 1 or more.
        pause: seconds before the second try, doubled before each further one.

    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 0.25


PATIENCE = Patience()


class _Server:
    """Sends requests, again where a server is busy or away."""

    def __init__(self, url: str, patience: Patience) -> None:
        self.http = require("httpx2", extra="endpoint", what="models behind a URL")
        if not url.startswith(("http://", "https://")):
            raise ModelError(f"expected a URL http:// or https://, got {url!r:.200}")
        self.url, self.patience = url.rstrip("/").removesuffix("/v2"), patience
        self.client = self.http.Client(timeout=patience.timeout)

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON that lies at a path."""
        body, _ = self.sent("GET", path)
        return read_json(body, f"{self.url}{path}")

    def optional(self, path: str) -> dict[str, Any]:
        """Return the JSON that lies at a path, or nothing where a server has none there."""
        try:
            return self.get(path)
        except ModelError as error:
            log.info("%s", error)
            return {}

    def takes_bytes(self) -> bool:
        """Return whether tensors may travel as bytes."""
        extensions = self.optional("/v2").get("extensions")
        return isinstance(extensions, list) and BINARY in extensions

    def sent(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers of an answer.

        Raises:
            ModelError: none came in time, or it is an error.

        """
        where, said = f"{self.url}{path}", ""
        for count in range(self.patience.tries):
            if count:
                time.sleep(self.patience.pause * 2 ** (count - 1))
            try:
                status, text, found = self._once(method, where, body, headers)
            except self.http.TimeoutException:
                said = f"no answer within {self.patience.timeout:g} s"
            except (self.http.HTTPError, self.http.InvalidURL) as error:
                said = f"no answer: {error or type(error).__name__}"
            else:
                if status == 200:
                    return text, found
                reason = text[:300].decode("utf-8", "replace").strip()
                said = f"expected the status 200, got {status}: {reason}"
                if status == _TOO_LARGE:
                    raise _TooLargeError(f"{where}: {said}")
                if status not in _BUSY:
                    raise ModelError(f"{where}: {said}")
            log.info("%s: %s (try %d of %d)", where, said, count + 1, self.patience.tries)
        raise ModelError(f"{where}: {said} (tried {self.patience.tries} times)")

    def _once(
        self, method: str, where: str, body: bytes, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send once, and read an answer of a bounded length, for a bounded time."""
        until = time.monotonic() + self.patience.timeout
        with self.client.stream(method, where, content=body or None, headers=dict(headers or {})) as reply:
            parts, size = [], 0
            for part in reply.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_ANSWER:
                    raise ModelError(
                        f"{where}: expected an answer of at most {_MOST_ANSWER:,} bytes, got more"
                    )
                if time.monotonic() > until:
                    raise self.http.ReadTimeout("too slow")
            return reply.status_code, b"".join(parts), reply.headers


class _TooLargeError(ModelError):
    """A server takes fewer images at once."""


class _Model:
    """One model of a server, asked with prepared images."""

    def __init__(
        self, server: _Server, path: str, fed: Feed, outputs: tuple[str, ...], *, binary: bool
    ) -> None:
        self.server, self.path, self.fed, self.outputs, self.binary = server, path, fed, outputs, binary
        self.most = fed.most or IMAGES
        self.most = min(self.most, max(1, VALUES // int(np.prod(fed.shape)))) if not fed.exact else fed.exact

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]] | NDArray[Any]:
        """Return the outputs for images (N, ...), by name, or the only one."""
        parts: list[dict[str, NDArray[Any]]] = []
        start = 0
        while start < len(images):
            some = images[start : start + self.most]
            try:
                parts.append(self._asked(some))
            except _TooLargeError:
                if self.most == 1 or self.fed.exact:
                    raise
                self.most = max(1, min(self.most, len(some)) // 2)
                continue
            start += len(some)
        names = self.outputs or tuple(parts[0])
        found = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return next(iter(found.values())) if len(found) == 1 else found

    def _asked(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        count, where = len(images), f"{self.server.url}{self.path}"
        if self.fed.exact > count:  # the last images stand in for those that are missing
            images = np.concatenate([images, np.repeat(images[-1:], self.fed.exact - count, 0)])
        body, headers = request(self.fed, self.outputs, self.fed.array(images), binary=self.binary)
        text, said = self.server.sent("POST", f"{self.path}/infer", body, headers)
        found = answer(text, said, where)
        if missing := [name for name in self.outputs if name not in found]:
            raise ModelError(f"{where}: expected the output {missing[0]!r}, got {', '.join(found) or 'none'}")
        for name, values in found.items():
            rows = values if self.fed.batched else values.reshape(1, -1)
            if rows.ndim == 0 or len(rows) != len(images):
                raise ModelError(
                    f"{where}: expected {len(images)} rows of the output {name!r}, one per image, "
                    f"got shape {values.shape}"
                )
            found[name] = rows[:count]
        return found


def open_endpoint(
    url: str,
    name: str,
    *,
    input_name: str | None = None,
    output: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    layout: str | None = None,
    class_names: tuple[str, ...] = (),
    patience: Patience = PATIENCE,
) -> BlackBox:
    """Return a model of a server that speaks the Open Inference Protocol, version 2.

    Shape, type, layout and limits are read from the server's metadata. Tensors travel as bytes where the
    server says that it can, else as JSON. A busy server, or one that is away, is asked again.

    Args:
        url: of the server, such as "http://localhost:8000".
        name: of the model, or NAME/VERSION.
        input_name: the input that takes the images, where there are several.
        output: the output that answers the classes, where there are several.
        input_shape: (C, H, W), where the server leaves it open.
        preprocessing: from [0, 1] to what the model wants; None for 0 to 1, or 0 to 255 for whole numbers.
        layout: "NCHW" or "NHWC", where the metadata do not tell.
        class_names: one name per class, or empty.
        patience: how long it is waited for.

    Raises:
        ModelError: it cannot be reached, has no such model, or answers what is no answer.
        OptionError: several inputs or outputs and none named.
        MissingExtraError: httpx2 is not installed.

    """
    server = _Server(url, patience)
    model, _, version = name.partition("/")
    path = f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
    where = f"{server.url}{path}"
    stated = server.get(path)
    config = server.optional(f"{path}/config") if str(stated.get("platform", "")) else {}
    most = config.get("max_batch_size")
    fed = feed(
        chosen(tensors_of(stated, "inputs", where), input_name, "input", where),
        where,
        shape=input_shape,
        layout=layout,
        most=most if isinstance(most, int) and not isinstance(most, bool) else None,
    )
    outputs = tensors_of(stated, "outputs", where)
    one = chosen(outputs, output, "output", where).name if outputs else output
    asked = _Model(server, path, fed, () if one is None else (one,), binary=server.takes_bytes())
    pre = preprocessing or Preprocessing(high=255.0 if fed.whole else 1.0)
    return BlackBox(
        asked,
        fed.shape,
        preprocessing=replace(pre, layout=fed.layout),
        class_names=class_names,
        origin=Origin(path=where, format="v2", net=name, details={} if one is None else {"output": one}),
        batch=10**6,
    )
