"""A model behind a URL: asked by the Open Inference Protocol, version 2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detrojan.errors import ModelError
from detrojan.models.blackbox import BlackBox
from detrojan.models.classifier import Origin
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.transport import PATIENCE, Patience, Server, TooLargeError
from detrojan.models.v2 import Feed, answer, chosen, feed, model_path, request, tensors_of

#: images in one request where the server names no limit, and the most values of it
IMAGES, VALUES = 64, 2**21


class _Model:
    """One model of a server, asked with prepared images."""

    def __init__(
        self, server: Server, path: str, fed: Feed, outputs: tuple[str, ...], *, binary: bool
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
            except TooLargeError:
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
    token: str | None = None,
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
        token: that the server asks for; None for what `DETROJAN_UPSTREAM_TOKEN` says.

    Raises:
        ModelError: it cannot be reached, has no such model, or answers what is no answer.
        OptionError: several inputs or outputs and none named.
        MissingExtraError: httpx2 is not installed.

    """
    server = Server(url, patience, token=token)
    path = model_path(name)
    where = f"{server.url}{path}"
    stated = server.get(path)
    config = server.optional(f"{path}/config") if str(stated.get("platform", "")) else {}
    fed = feed(
        chosen(tensors_of(stated, "inputs", where), input_name, "input", where),
        where,
        shape=input_shape,
        layout=layout,
        most=_whole(config.get("max_batch_size")),
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


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
