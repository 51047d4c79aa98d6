"""Operators that resize and pad answer as ONNX Runtime does, or are refused by name."""

import numpy as np
import pytest

from detrojan.errors import ModelError
from detrojan.models.loading import load_model
from onnx_graphs import made, runtime

UP = np.array([1, 1, 2, 2], np.float32)
TO = np.array([1, 3, 11, 5])
PADS = np.array([0, 0, 1, 2, 0, 0, 3, 0])


def network(path, op, inputs, weights, **attributes):
    """Write a graph of one operator, then a mean over the places with weights that tell them apart."""
    nodes = [
        (op, ["images", *inputs], "maps", attributes),
        ("Flatten", ["maps"], "flat"),
        ("MatMul", ["flat", "head"], "logits"),
    ]
    rng = np.random.default_rng(3)
    side = weights.pop("out")
    head = rng.normal(size=(3 * side[0] * side[1], 5)).astype(np.float32)
    return made(path / "net.onnx", nodes, {**weights, "head": head}, shape=(1, 3, 8, 8), opset=18)


RESIZES = [
    ("scales", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("scales", {"mode": "nearest"}),
    ("scales", {"mode": "linear"}),
    ("sizes", {"mode": "linear"}),
    ("sizes", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("sizes", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("sizes", {"mode": "cubic"}),
]


def resized(path, by, attributes):
    given = {"scales": UP, "out": (16, 16)} if by == "scales" else {"sizes": TO, "out": (11, 5)}
    inputs = ["", "scales"] if by == "scales" else ["", "", "sizes"]
    return network(path, "Resize", inputs, given, **attributes)


@pytest.mark.parametrize(("by", "attributes"), RESIZES)
def test_resized_maps_are_the_runtimes(tmp_path, images, by, attributes):
    path, batch = resized(tmp_path, by, attributes), images(1, 3, 8, 8)
    np.testing.assert_allclose(
        load_model(path).all_logits(batch), runtime(path, batch)[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "nearest", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "cubic", "cubic_coeff_a": -0.5},
    ],
)
def test_resizing_that_is_not_known_is_refused_by_name(tmp_path, attributes):
    with pytest.raises(ModelError, match=r"Resize"):
        load_model(resized(tmp_path, "sizes", attributes))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_padded_maps_are_the_runtimes(tmp_path, images, mode):
    inputs = ["pads", "fill"] if mode == "constant" else ["pads"]
    weights = {"pads": PADS, "fill": np.float32(0.25), "out": (12, 10)}
    path = network(tmp_path, "Pad", inputs, weights, mode=mode)
    batch = images(1, 3, 8, 8)
    np.testing.assert_allclose(
        load_model(path).all_logits(batch), runtime(path, batch)[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_response_norm_is_the_runtimes(tmp_path, images, size):
    asked = {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 2.0}
    path = network(tmp_path, "LRN", [], {"out": (8, 8)}, **asked)
    batch = images(1, 3, 8, 8)
    np.testing.assert_allclose(
        load_model(path).all_logits(batch), runtime(path, batch)[0], rtol=1e-4, atol=1e-4
    )


def test_a_sum_by_an_equation_is_the_runtimes(tmp_path, images):
    mix = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    path = network(tmp_path, "Einsum", ["mix"], {"mix": mix, "out": (8, 8)}, equation="nchw,cd->ndwh")
    batch = images(1, 3, 8, 8)
    np.testing.assert_allclose(
        load_model(path).all_logits(batch), runtime(path, batch)[0], rtol=1e-4, atol=1e-4
    )
