"""The Open Inference Protocol, version 2: what a server says of a model, and how tensors travel.

KServe, Triton, MLServer and others speak it. Reference: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from detrojan.errors import ModelError, OptionError

#: how many bytes of a binary request are its JSON
LENGTH = "Inference-Header-Content-Length"
#: the extension that lets tensors travel as bytes
BINARY = "binary_tensor_data"
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_DTYPES = {
    **_FLOATS,
    **{
        f"{kind}{bits}": f"<{kind[0].lower()}{bits // 8}"
        for kind in ("UINT", "INT")
        for bits in (8, 16, 32, 64)
    },
}
#: what outputs that are passed on may be, beside BYTES
_ALL_DTYPES = {**_DTYPES, "BOOL": "?", "BF16": "<u2"}
Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a server says of one input or output.

    Attributes:
        name: its name.
        datatype: such as "FP32".
        shape: its sides, -1 where any will do.

    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Describe it in one line."""
        return f"{self.name} ({self.datatype} {list(self.shape)})"


@dataclass(frozen=True, kw_only=True)
class Feed:
    """How images reach a model.

    Attributes:
        tensor: the input they go to.
        shape: (C, H, W) of an image.
        layout: the order of the input's sides.
        batched: whether the first side counts images; one image is asked about at a time elsewhere.
        most: how many images at once, 0 where the server does not say.
        exact: how many images there must be, 0 for any number.

    """

    tensor: Tensor
    shape: tuple[int, int, int]
    layout: Layout
    batched: bool
    most: int = 0
    exact: int = 0

    @property
    def whole(self) -> bool:
        """Whether the input is of whole numbers, 0 to 255."""
        return self.tensor.datatype not in _FLOATS

    def array(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Return prepared images (N, ...) in the input's type, whole numbers rounded."""
        if self.whole:
            images = images.round().clip(0, 255)
        found: NDArray[Any] = images.astype(self.dtype)
        return found if self.batched else found[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's name of the input's type."""
        return np.dtype(_DTYPES[self.tensor.datatype])


def model_path(name: str) -> str:
    """Return the path of a model that is called NAME or NAME/VERSION."""
    model, _, version = name.partition("/")
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")


def tensors_of(stated: Any, side: Literal["inputs", "outputs"], where: str) -> tuple[Tensor, ...]:
    """Return what a model's metadata say of its inputs or outputs.

    Raises:
        ModelError: they are not what the protocol says.

    """
    listed = stated.get(side) if isinstance(stated, dict) else None
    try:
        return tuple(
            Tensor(name=str(one["name"]), datatype=str(one["datatype"]), shape=tuple(map(int, one["shape"])))
            for one in listed or ()
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{where}: expected metadata with {side} of a name, datatype and shape, got {listed!s:.200}"
        ) from error


def chosen(
    tensors: Sequence[Tensor], name: str | None, what: Literal["input", "output"], where: str
) -> Tensor:
    """Return the tensor of a name, or the only one; of inputs the only one that can take images.

    Raises:
        OptionError: several and no name, or none of that name.
        ModelError: none at all.

    """
    if not tensors:
        raise ModelError(f"{where}: expected an {what} in its metadata, got none")
    fits = [one for one in tensors if what == "output" or len(one.shape) in {3, 4}] or list(tensors)
    if name is None and len(fits) == 1:
        return fits[0]
    listed = ", ".join(map(str, tensors))
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    if name is not None and name.isdecimal() and len(name) < 6 and int(name) < len(tensors):
        return tensors[int(name)]
    got = f"none named: state --{what} NAME" if name is None else repr(name)
    raise OptionError(f"{where}: expected one {what} out of {listed}, got {got}")


def feed(
    tensor: Tensor,
    where: str,
    *,
    shape: tuple[int, int, int] | None = None,
    layout: str | None = None,
    most: int | None = None,
) -> Feed:
    """Return how images reach an input.

    Args:
        tensor: the input.
        where: the model, for error texts.
        shape: (C, H, W), where the server leaves sides open.
        layout: "NCHW" or "NHWC", where the shape does not tell it.
        most: `max_batch_size` of the model's configuration; None where it is not known. With 0 the shape
            has no side that counts images.

    Raises:
        ModelError: the input takes no images, or their size is left open.

    """
    if tensor.datatype not in _DTYPES:
        raise ModelError(f"{where}: expected an input of {', '.join(_DTYPES)}, got {tensor}")
    sides = tensor.shape
    batched = len(sides) == 4
    if len(sides) not in {3, 4}:
        raise ModelError(
            f"{where}: expected an input of images, [-1, C, H, W] or [-1, H, W, C], got {tensor}"
        )
    own = sides[1:] if batched else sides
    order = _layout(own, layout, shape)
    turned = own if order == "NCHW" else (own[2], own[0], own[1])
    said = tuple(int(side) for side in (shape or turned))
    if any(side < 1 for side in said):
        raise ModelError(f"{where}: expected --input-shape CxHxW, since the server leaves it open: {tensor}")
    if any(one not in {-1, side} for one, side in zip(turned, said, strict=True)):
        raise ModelError(f"{where}: expected images of {list(said)} (C, H, W), got the input {tensor}")
    exact = max(0, sides[0]) if batched else 1
    return Feed(
        tensor=tensor,
        shape=(said[0], said[1], said[2]),
        layout=order,
        batched=batched,
        most=exact or most or 0,
        exact=exact,
    )


def _layout(sides: tuple[int, ...], stated: str | None, shape: tuple[int, int, int] | None) -> Layout:
    if stated is not None:
        return "NHWC" if stated == "NHWC" else "NCHW"
    if shape is not None and all(a in {-1, b} for a, b in zip(sides, shape, strict=True)):
        return "NCHW"
    usual = any(sides[2] in few and sides[0] not in few for few in ({1, 3}, {1, 3, 4}))
    return "NHWC" if usual else "NCHW"


def request(
    feed: Feed, outputs: Sequence[str], array: NDArray[Any], *, binary: bool
) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request for some outputs, and its headers.

    Args:
        feed: the input.
        outputs: names of the outputs that are wanted; none for all.
        array: what goes to the input.
        binary: whether tensors travel as bytes.

    """
    given: dict[str, Any] = {
        "name": feed.tensor.name,
        "shape": list(array.shape),
        "datatype": feed.tensor.datatype,
    }
    wanted: list[dict[str, Any]] = [{"name": name} for name in outputs]
    if not binary:
        values = {
            "inputs": [given | {"data": array.ravel().tolist()}],
            **({"outputs": wanted} if wanted else {}),
        }
        return json.dumps(values).encode(), {"Content-Type": "application/json"}
    raw = array.tobytes()
    given["parameters"] = {"binary_data_size": len(raw)}
    named = {"outputs": [one | {"parameters": {"binary_data": True}} for one in wanted]}
    every = {"parameters": {"binary_data_output": True}}
    head = json.dumps({"inputs": [given], **(named if wanted else every)}).encode()
    return head + raw, {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}


def read_json(body: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        ModelError: it is none.

    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: expected JSON, got {body[:80]!r}: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{where}: expected a JSON object, got {body[:80]!r}")
    return found


def answer(body: bytes, headers: Mapping[str, str], where: str) -> dict[str, NDArray[Any]]:
    """Return the outputs of an answer, by name; all of them have to be numbers.

    Raises:
        ModelError: it is not what the protocol says.

    """
    _, found = outputs_of(body, headers, where)
    for name, (datatype, _) in found.items():
        if datatype not in _DTYPES:
            raise ModelError(f"{where}: expected an output with numbers, got {name} ({datatype})")
    return {name: values for name, (_, values) in found.items()}


def outputs_of(
    body: bytes, headers: Mapping[str, str], where: str
) -> tuple[dict[str, Any], dict[str, tuple[str, NDArray[Any]]]]:
    """Return the JSON of an answer, and the datatype and the values of each output, by name.

    Values of BYTES are `bytes`, or `str` where they came in JSON; those of BF16 are their bits as uint16.

    Raises:
        ModelError: it is not what the protocol says.

    """
    length = headers.get(LENGTH)
    if length is not None and not (length.isdecimal() and int(length) <= len(body)):
        raise ModelError(f"{where}: expected {LENGTH} of at most {len(body)} bytes, got {length!r:.40}")
    cut = len(body) if length is None else int(length)
    stated = read_json(body[:cut], where)
    listed = stated.get("outputs")
    if not isinstance(listed, list):
        raise ModelError(f"{where}: expected outputs, got {body[:200]!r}")
    rest, found = memoryview(body)[cut:], {}
    for one in listed:
        try:
            name, shape = str(one["name"]), tuple(int(side) for side in one["shape"])
            datatype = str(one["datatype"])
            if min(shape, default=0) < 0:
                raise ValueError("a side below 0")  # noqa: TRY301 - said as all that is wrong here
            size = (one.get("parameters") or {}).get("binary_data_size")
            if size is None:
                values = _from_json(one["data"], datatype)
            else:
                values, rest = _from_binary(rest[: int(size)], datatype), rest[int(size) :]
            found[name] = datatype, values.reshape(shape)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ModelError(
                f"{where}: expected an output with values of its shape, got {one!s:.200}: {error}"
            ) from error
    return stated, found


def _from_json(data: Any, datatype: str) -> NDArray[Any]:
    if datatype != "BYTES":
        return np.asarray(data, dtype=np.dtype(_ALL_DTYPES[datatype]))
    texts = np.asarray(data, dtype=object).ravel()
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("expected texts")
    return texts


def _from_binary(raw: memoryview, datatype: str) -> NDArray[Any]:
    if datatype != "BYTES":
        return np.frombuffer(raw, dtype=np.dtype(_ALL_DTYPES[datatype]))
    texts = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        if size > len(raw) - 4:
            raise ValueError("a text that is longer than the data")
        texts.append(bytes(raw[4 : 4 + size]))
        raw = raw[4 + size :]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found
