"""Outputs of every type, in JSON and in binary."""

import json

import numpy as np
import torch

from detrojan.serve.tensors import Asked, Tensor, encode

TEXTS = np.empty(2, object)
TEXTS[:] = [b"\xffhi", "grüß"]
OUTPUTS = [
    Tensor(name="texts", datatype="BYTES", values=TEXTS),
    Tensor(name="half", datatype="BF16", values=np.array([0x3F80, 0xC000], "<u2")),
    Tensor(name="truths", datatype="BOOL", values=np.array([True, False])),
    Tensor(name="numbers", datatype="FP32", values=np.array([[0.5, np.nan]], "<f4")),
]


def asked(*, binary):
    empty = torch.empty(0)
    return Asked(images=empty, values=empty.numpy(), binary={}, binary_default=binary)


def test_json_holds_every_type():
    body, headers = encode(OUTPUTS, asked(binary=False), "m", "7")
    answer = json.loads(body)
    assert headers == {"content-type": "application/json"}
    assert (answer["model_name"], answer["model_version"]) == ("m", "7")
    found = {one["name"]: one["data"] for one in answer["outputs"]}
    assert found == {
        "texts": ["\ufffdhi", "grüß"],
        "half": [1.0, -2.0],
        "truths": [True, False],
        "numbers": [0.5, None],
    }
    assert answer["outputs"][3]["shape"] == [1, 2]


def test_binary_is_the_same_bytes():
    body, headers = encode(OUTPUTS, asked(binary=True), "m")
    rest = body[int(headers["inference-header-content-length"]) :]
    texts = b"\x03\x00\x00\x00\xffhi\x06\x00\x00\x00" + "grüß".encode()
    numbers = np.array([0.5, np.nan], "<f4").tobytes()
    assert rest == texts + b"\x80\x3f\x00\xc0" + b"\x01\x00" + numbers
