"""Tensors of the Open Inference Protocol, version 2: out of JSON and binary bodies, and back.

Every body comes from a stranger. What is wrong with one ends in a `RefusedError` that says what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from detrojan.errors import RefusedError
from detrojan.serve.intake import Intake
from detrojan.serve.refusals import malformed
from detrojan.words import printable

#: the version that is served
VERSION = "1"
#: the header that says where the JSON ends and the binary tensors begin
HEADER = "inference-header-content-length"
_Name = Annotated[str, Field(max_length=200)]
_Count = Annotated[int, Field(strict=True, ge=0, le=2**40)]


class _Parameters(BaseModel):
    binary_data_size: _Count | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False
    classification: int | None = None


class _Input(BaseModel):
    name: _Name
    shape: Annotated[list[_Count], Field(max_length=8)]
    datatype: _Name
    parameters: _Parameters = _Parameters()
    data: Any = None


class _Output(BaseModel):
    name: _Name
    parameters: _Parameters = _Parameters()


class _Request(BaseModel):
    id: Annotated[str, Field(max_length=200)] = ""
    parameters: _Parameters = _Parameters()
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=8)]
    outputs: Annotated[list[_Output], Field(max_length=32)] | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that can be answered.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1].
        values: the same as they came.
        id: what the client calls the request.
        binary: for each output that is wanted, whether in binary; empty for all outputs.
        binary_default: whether outputs are binary where the client names none.

    """

    images: torch.Tensor
    values: NDArray[Any]
    id: str = ""
    binary: dict[str, bool]
    binary_default: bool = False


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One output.

    Attributes:
        name: of the output.
        datatype: the protocol's name of it.
        values: numbers; texts or bytes for BYTES; the bits as uint16 for BF16.

    """

    name: str
    datatype: str
    values: NDArray[Any]


def parse(body: bytes, header_length: str | None, intake: Intake) -> Asked:
    """Read an inference request.

    Args:
        body: JSON, or JSON and binary tensors after it.
        header_length: how long the JSON is, as the header says; None where all of the body is JSON.
        intake: what the model takes.

    Raises:
        RefusedError: it cannot be read, or is not what the model takes.

    """
    head, rest = _cut(body, header_length)
    asked = _request(head)
    if [one.name for one in asked.inputs] != [intake.name]:
        got = ", ".join(printable(one.name, 40) for one in asked.inputs)
        raise malformed(f"expected one input called {intake.name!r}, got {got}")
    given = asked.inputs[0]
    intake.check(given.shape, given.datatype)
    dtype = intake.datatypes[given.datatype]
    size = given.parameters.binary_data_size
    if size is None:
        if rest:
            raise malformed(f"expected no binary data behind the JSON, got {len(rest):,} bytes")
        values = _from_json(given, dtype)
    else:
        values = _from_binary(given, rest, size, dtype)
    default = asked.parameters.binary_data_output
    binary = {}
    for one in asked.outputs or ():
        if one.parameters.classification:
            raise malformed(f"expected output {printable(one.name, 40)} without the parameter classification")
        stated = one.parameters.binary_data
        binary[one.name] = default if stated is None else stated
    values = values.reshape(given.shape)
    return Asked(
        images=intake.read(values), values=values, id=asked.id, binary=binary, binary_default=default
    )


def _cut(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    digits = header_length.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 16 and int(digits) <= len(body)):
        raise malformed(
            f"expected Inference-Header-Content-Length of 0 to {len(body):,}, the bytes of the body, "
            f"got {printable(digits, 20)!r}"
        )
    return body[: int(digits)], body[int(digits) :]


def _request(head: bytes) -> _Request:
    def no_constant(text: str) -> NoReturn:
        raise malformed(f"expected finite numbers in the JSON, got {text}")

    try:
        return _Request.model_validate(json.loads(head, parse_constant=no_constant))
    except RefusedError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise malformed(f"{printable(place, 80)}: {printable(first['msg'], 120)}") from None
    except (ValueError, RecursionError) as error:
        raise malformed(f"expected a request in JSON: {printable(str(error), 120)}") from None


def _from_binary(given: _Input, rest: bytes, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if given.data is not None:
        raise malformed(f"expected data of {given.name} in the JSON or behind it, got both")
    wanted = math.prod(given.shape) * dtype.itemsize
    if not size == wanted == len(rest):
        raise malformed(
            f"expected {wanted:,} bytes for {given.datatype} of shape {given.shape}, got binary_data_size "
            f"{size:,} and {len(rest):,} bytes behind the JSON"
        )
    return np.frombuffer(rest, dtype)


def _from_json(given: _Input, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        values = np.asarray(given.data)
    except (ValueError, TypeError, OverflowError, RecursionError):
        values = np.empty(0, object)
    if values.dtype.kind not in "iuf":
        raise malformed(f"expected data of {given.name} as a list of numbers, flat or nested like its shape")
    if values.size != math.prod(given.shape) or values.ndim not in {1, len(given.shape)}:
        raise malformed(
            f"expected {math.prod(given.shape):,} numbers for shape {given.shape}, "
            f"got an array of shape {list(values.shape)}"
        )
    if values.ndim > 1 and list(values.shape) != given.shape:
        raise malformed(f"expected nested data of shape {given.shape}, got {list(values.shape)}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = values.dtype.kind in "iu"
        if not (whole and int(values.min()) >= limits.min and int(values.max()) <= limits.max):
            raise malformed(
                f"expected whole numbers of {limits.min:,} to {limits.max:,} for {given.datatype}"
            )
    with np.errstate(over="ignore"):  # what becomes infinite is refused as out of range
        return values.astype(dtype)


def outputs_of(tensors: Sequence[Tensor], asked: Asked) -> list[Tensor]:
    """Return the outputs that are wanted, in the order in which they are.

    Raises:
        RefusedError: there is no such output.

    """
    known = {one.name: one for one in tensors}
    for name in asked.binary:
        if name not in known:
            raise malformed(f"expected outputs out of {', '.join(known)}, got {printable(name, 40)!r}")
    return [known[name] for name in asked.binary] or list(tensors)


def encode(
    tensors: Sequence[Tensor], asked: Asked, model: str, version: str = VERSION
) -> tuple[bytes, dict[str, str]]:
    """Return the body of an answer and its headers.

    Args:
        tensors: the outputs that are wanted.
        asked: the request, which says which of them are binary.
        model: the name of the model.
        version: of the model.

    """
    described, parts = list[dict[str, Any]](), list[bytes]()
    for one in tensors:
        entry: dict[str, Any] = {
            "name": one.name,
            "datatype": one.datatype,
            "shape": list(one.values.shape),
        }
        if asked.binary.get(one.name, asked.binary_default):
            parts.append(_binary(one))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = _listed(one)
        described.append(entry)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if asked.id:
        answer["id"] = asked.id
    head = json.dumps(answer, allow_nan=False).encode()
    if not parts:
        return head, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER: str(len(head))}
    return b"".join([head, *parts]), headers


def finite(value: Any) -> Any:
    """Return a value as JSON can hold it: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _binary(one: Tensor) -> bytes:
    if one.datatype == "BYTES":
        found = one.values.ravel().tolist()
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in found]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.ascontiguousarray(one.values).tobytes()


def _listed(one: Tensor) -> list[Any]:
    """Return the values of an output as JSON can hold them."""
    values = one.values.ravel()
    if one.datatype == "BYTES":
        return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in values]
    if one.datatype == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return [finite(value) for value in values.tolist()]
