"""Operations between layers: Keras 3's, against real Keras, and those of TensorFlow's Keras."""

import json

import h5py
import numpy as np
import pytest
import torch

from detrojan.errors import ModelError
from detrojan.models.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _ending(keras, start, x):
    k = keras.layers
    return keras.Model(start, k.Dense(3)(k.Flatten()(k.Conv2D(2, 2)(x))))


def _cases(keras):
    ops = keras.ops
    yield "arithmetic", lambda x: 2.0 / (1.5 + (3 - x * 2) ** 2) + ops.maximum(-x, 0.2) - ops.abs(x)
    yield "arrays", lambda x: (x - np.array([0.1, 0.2, 0.3], "float32")) / np.array([1, 2, 3], "float32")
    yield (
        "activations",
        lambda x: ops.relu6(ops.silu(x) * 9) + ops.hard_sigmoid(x) * ops.gelu(x) + ops.tanh(x),
    )
    yield "squeeze_and_excite", lambda x: x * ops.sigmoid(ops.mean(x, axis=[1, 2], keepdims=True))
    yield "slices", lambda x: x[:, 1:-1, ::2, -2:]
    yield "index", lambda x: ops.stack([x[..., 2], x[..., 0]], axis=-1)
    yield "shapes", lambda x: ops.expand_dims(ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, 12, 18)), -1)
    yield "joined", lambda x: ops.concatenate([ops.clip(x, 0.2, 0.7), ops.softmax(x)], axis=1)
    yield "padded", lambda x: ops.pad(ops.relu(x - 0.5), ((0, 0), (1, 2), (0, 1), (0, 0)))
    yield "preprocessed_as_mobilenet", keras.applications.mobilenet_v2.preprocess_input
    yield "preprocessed_as_resnet", lambda x: keras.applications.resnet50.preprocess_input(x) / 100


NAMES = [
    *("arithmetic", "arrays", "activations", "squeeze_and_excite", "slices", "index", "shapes", "joined"),
    *("padded", "preprocessed_as_mobilenet", "preprocessed_as_resnet"),
]


def test_every_case_is_run(keras):
    assert [name for name, _ in _cases(keras)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_keras_does(keras, as_keras, name):
    start = keras.Input((9, 8, 3))
    ours = as_keras(_ending(keras, start, dict(_cases(keras))[name](start)))
    expected = (0, 255) if name.startswith("preprocessed") else (0, 1)
    assert (ours.preprocessing.low, ours.preprocessing.high) == expected


def test_answers_as_keras_does_in_hdf5(keras, as_keras):
    start = keras.Input((9, 8, 3))
    as_keras(_ending(keras, start, (start + 1.0) * 3.0 - start), ".h5")


def _layer(name, kind, config, *nodes):
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": list(nodes),
    }


def _tensorflow(path, *operations):
    """Write a network as TensorFlow's Keras 2 does: images of 4 x 4, operations, and a sum."""
    start = _layer("images", "InputLayer", {"batch_input_shape": [None, 4, 4, 3]})
    last = operations[-1]["name"]
    ends = [_layer("flat", "Flatten", {}, [[last, 0, 0, {}]])]
    ends += [_layer("dense", "Dense", {"units": 1, "use_bias": False}, [["flat", 0, 0, {}]])]
    ends += [_layer("two", "Concatenate", {"axis": -1}, [["dense", 0, 0, {}], ["dense", 0, 0, {}]])]
    inner = {"name": "model", "layers": [start, *operations, *ends]}
    inner |= {"input_layers": [["images", 0, 0]], "output_layers": [["two", 0, 0]]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": inner})
        file.attrs["keras_version"] = "2.15.0"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["dense"]
        group.create_group("dense").attrs["weight_names"] = ["dense/kernel:0"]
        group["dense/dense/kernel:0"] = np.ones((48, 1), "float32")
    return path


def _call(name, function, node):
    kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
    return _layer(name, kind, {"function": function, "trainable": True, "dtype": "float32"}, node)


def test_tensorflow_s_operations(tmp_path, images):
    divided, taken, turned, shifted = "tf.math.truediv", "tf.math.subtract", "tf.getitem", "tf.nn.bias_add"
    index = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
    operations = [
        _call(divided, "math.truediv", [["images", 0, 0, {"y": 0.5, "name": None}]]),
        _call(taken, "math.subtract", [["_CONSTANT_VALUE", -1, 1.5, {"y": [divided, 0, 0]}]]),
        _call(turned, "__operators__.getitem", [[taken, 0, 0, {"slice_spec": index}]]),
        _call(shifted, "nn.bias_add", [[turned, 0, 0, {"bias": [0.1, 0.2, 0.3]}]]),
        _call("tf.nn.relu", "nn.relu", [[shifted, 0, 0, {"name": None}]]),
    ]
    ours = load_model(_tensorflow(tmp_path / "m.h5", *operations))
    batch = images(3, 3, 4, 4)
    expected = (1.5 - batch * 2).flip(1) + torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(ours.all_logits(batch)[:, 0], expected.relu().flatten(1).sum(1))


@pytest.mark.parametrize(
    ("function", "more", "text"),
    [
        ("io.read_file", {}, r"expected an operation out of .*got 'io.read_file'"),
        ("py_function", {"func": "os.system"}, r"expected an operation out of .*got 'py_function'"),
        ("math.add", {"y": "text"}, r"expected tensors and numbers, got 'text'"),
        ("reshape", {"shape": [1, 48]}, r"layer 'op' \(TFOpLambda\)"),
        ("math.reduce_mean", {}, r"expected the axes of mean, got none"),
        ("cast", {"dtype": "uint8"}, r"expected identity without dtype='uint8'"),
        ("pad", {"paddings": [[0, 0]] * 4, "mode": "REFLECT"}, r"expected pad without mode='REFLECT'"),
        ("nn.relu", {"bogus": 3}, r"expected relu without bogus=3"),
        ("__operators__.getitem", {"slice_spec": ["a"]}, r"expected an index of numbers and slices, got 'a'"),
    ],
)
def test_other_operations_are_refused(tmp_path, function, more, text):
    path = _tensorflow(tmp_path / "m.h5", _call("op", function, [["images", 0, 0, more]]))
    with pytest.raises(ModelError, match=text):
        load_model(path)


@pytest.mark.parametrize(("version", "expected"), [("2.15.0", 0.7), ("3.1.0", 2 / 3)])
def test_the_hard_sigmoid_changed_with_keras_3(tmp_path, version, expected):
    path = _tensorflow(
        tmp_path / "m.h5", _layer("a", "Activation", {"activation": "hard_sigmoid"}, [["images", 0, 0]])
    )
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = version
    got = load_model(path).all_logits(torch.ones(1, 3, 4, 4))[0, 0]
    assert float(got) == pytest.approx(48 * expected, rel=1e-5)
