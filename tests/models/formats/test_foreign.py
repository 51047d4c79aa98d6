"""Kinds of files that are known but not read are named, with what helps."""

import pickle
import zipfile
import zlib

import pytest

from detrojan.errors import ModelError
from detrojan.models.loading import load_model


def _field(number, content):
    return bytes([*_varint(number << 3 | 2), *_varint(len(content)), *content])


def _varint(number):
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return [*found, number]


class _Forest:
    def __reduce__(self):
        return (dict, (), {"sklearn.ensemble": 1})


FILES = {
    "tflite": (
        b"\x1c\0\0\0TFL3" + bytes(20),
        "TensorFlow Lite model; convert it: python -m tf2onnx.convert --tf",
    ),
    "pb": (
        b"\x08\x01" + _field(2, b"\x0a\x07\x12\x05serve"),
        "SavedModel; convert its folder: python -m tf2onnx",
    ),
    "graph": (
        _field(1, b"\x0a\x01x\x12\x0bPlaceholder"),
        r"TensorFlow graph; .*--graphdef .* --outputs OUTPUT:0",
    ),
    "sklearn": (
        pickle.dumps(_Forest()),
        "of scikit-learn or joblib; detrojan judges neural networks that class",
    ),
    "joblib": (
        zlib.compress(pickle.dumps({"joblib": 1})),
        "of scikit-learn or joblib; detrojan judges neural",
    ),
    "mlmodel": (
        b"\x08\x04" + _field(2, b"\x0a\x03abc") + _field(500, b"\x0a\x01x"),
        "Core ML model; export the",
    ),
    "engine": (b"ftrt" + bytes(40), "a TensorRT engine; export the network that it was made from as ONNX"),
    "xml": (
        b'<?xml version="1.0"?>\n<net name="x" version="11"><layers>',
        "an OpenVINO model; export the netw",
    ),
    "ort": (b"\x18\0\0\0ORTM" + bytes(20), "Runtime's own format; give the .onnx file that it was made from"),
    "gguf": (
        b"GGUF\x03\0\0\0" + bytes(20),
        r"a language model \(GGUF\); detrojan judges neural networks that",
    ),
}


NAMED = {
    "model.ckpt.meta": (
        _field(1, b"tensorflow") + _field(2, b"\x0a\x01x\x12\x0bPlaceholder") + _field(3, b"save"),
        "checkpoint of TensorFlow 1; .*--checkpoint",
    ),
    "model.ckpt.data-00000-of-00001": (
        b"\xee\xd1\x27",
        "part of a TensorFlow checkpoint; build the network in",
    ),
    "model.json": (
        b'{"format": "layers-model", "modelTopology": {}}',
        "TensorFlow.js; .*tensorflowjs_converter",
    ),
    "inference.pdmodel": (b"\x0a\x07" + bytes(20), "PaddlePaddle model; convert it: paddle2onnx"),
    "deploy.prototxt": (
        b'name: "n"\nlayer {\n type: "Convolution"\n bottom: "x"\n}',
        "layers of a Caffe network; .*caffe2onnx",
    ),
    "net.caffemodel": (
        _field(1, b"n") + _field(100, b"\x0a\x01c\x12\x0bConvolution"),
        "weights of a Caffe network; .*caffe2onnx",
    ),
    "yolo.cfg": (b"[net]\nbatch=1\n", "layers of a Darknet network; convert"),
    "yolo.weights": (bytes(4) + b"\2\0\0\0" + bytes(20), "weights of a Darknet network; convert"),
    "config.json": (
        b'{"architectures": ["ResNetForImageClassification"]}',
        "Hugging Face folder; give the fold",
    ),
    "weights.npy": (b"\x93NUMPY\1\0" + bytes(20), r"NumPy arrays; .*torch\.save\(model\.state_dict"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_kind_that_its_name_tells_is_named(name, tmp_path):
    content, text = NAMED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"expected a model that is read, got .*{text}"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("unsafe", [False, True])
def test_a_known_kind_is_named_with_what_helps(kind, unsafe, tmp_path):
    content, text = FILES[kind]
    path = tmp_path / "whatever.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"expected a model that is read, got .*{text}") as caught:
        load_model(path, allow_unsafe=unsafe)
    assert "allow-unsafe" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_saved_models_folder_is_named_with_its_conversion(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    text = (
        f"got a TensorFlow SavedModel; convert it: python -m tf2onnx.convert --saved-model {tmp_path} --out"
    )
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert text in str(caught.value)


def test_a_compiled_network_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/data/aotinductor/model/x.so", b"x")
    with pytest.raises(ModelError, match=r"compiled by AOTInductor; save it .*torch\.export\.save"):
        load_model(tmp_path / "net.pt2")


@pytest.mark.parametrize(
    "content", [b"hello", b"\n\n\nhello", b"\x08\x01", b"\x78\x9c\x00", b"\x08\x04\x12\xff\xff"]
)
def test_what_is_of_no_kind_is_still_refused(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ModelError, match=r"expected a model: .* which is none of them"):
        load_model(tmp_path / "x")
