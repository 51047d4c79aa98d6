"""Kinds of files that are known, but not read: each is named, with what helps."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detrojan.errors import ModelError
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.protobuf import outer_fields
from detrojan.models.weights import Architecture, Loaded

#: how many bytes are looked at
_LOOK = 1 << 16
_LIBRARIES = (b"sklearn", b"joblib", b"xgboost", b"lightgbm", b"catboost")


@dataclass(frozen=True)
class Kind:
    """A kind of model that is not read.

    Attributes:
        name: with its article.
        helps: what to do about it; {path} and {folder} stand for the file and where it lies.
        fits: tells by its content whether a file or folder is of this kind.

    """

    name: str
    helps: str
    fits: Callable[[Content], bool]


def _start(content: Content, count: int = _LOOK) -> bytes:
    if content.is_folder:
        return b""
    try:
        with content.path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _fields(content: Content) -> dict[int, int]:
    return {} if content.is_folder or content.is_zip else outer_fields(content.path) or {}


def _identifier(name: bytes) -> Callable[[Content], bool]:
    return lambda content: content.head[4:8] == name


def _saved_model(content: Content) -> bool:
    return content.head[:3] == b"\x08\x01\x12" and set(_fields(content)) <= {1, 2} and _has(content, b"serve")


def _has(content: Content, *words: bytes) -> bool:
    start = _start(content)
    return any(word in start for word in words)


def _graph_def(content: Content) -> bool:
    fields = _fields(content) if content.head[:1] == b"\n" else {}
    return 1 in fields and set(fields) <= {1, 2, 3, 4, 5} and _has(content, b"Placeholder", b"Const")


def _core_ml(content: Content) -> bool:
    fields = _fields(content) if content.head[:1] == b"\x08" else {}
    return fields.get(1) == 0 and any(200 <= number < 4000 for number in fields)


def _other_learners(content: Content) -> bool:
    start = _start(content)
    if start[:1] == b"\x78":  # what joblib writes with compress=...
        try:
            start = zlib.decompressobj().decompress(start, _LOOK)
        except zlib.error:
            return False
    return start[:1] == b"\x80" and b"torch" not in start and any(name in start for name in _LIBRARIES)


def _open_vino(content: Content) -> bool:
    start = _start(content)
    return start.lstrip()[:5] in {b"<?xml", b"<net "} and b"<net " in start and b"<layers" in start


def _named(pattern: str, *beside: str) -> Callable[[Content], bool]:
    """Tell a file by its name, and by the endings of files that lie beside it under the same name."""

    def fits(content: Content) -> bool:
        path = content.path
        if content.is_folder or re.search(pattern, path.name.lower()) is None:
            return False
        return not beside or any(path.with_suffix(ending).exists() for ending in beside)

    return fits


def _text(content: Content, beginning: bytes, *words: bytes) -> bool:
    """Tell whether a file is text that begins so, after blanks, and holds all these words."""
    start = b"" if content.is_zip else _start(content)
    return (
        b"\0" not in start and start.lstrip().startswith(beginning) and all(word in start for word in words)
    )


def _meta_graph(content: Content) -> bool:
    """Tell whether a file is the graph beside a checkpoint: it says in field 3 how it is restored."""
    fields = _fields(content) if content.head[:1] == b"\n" else {}
    return (
        fields.get(2) == 2 and fields.get(3) == 2 and _has(content, b"tensorflow", b"Placeholder", b"Const")
    )


def _caffe_weights(content: Content) -> bool:
    fields = _fields(content) if content.head[:1] == b"\n" else {}
    return 1 in fields and set(fields) & {2, 100} != set() and _has(content, b"Convolution", b"InnerProduct")


def _paddle(content: Content) -> bool:
    if content.is_folder:
        return any(name.endswith((".pdmodel", ".pdiparams")) for name in content.names)
    return _named(r"\.(pdmodel|pdiparams|pdparams)$")(content) or _text(content, b"{", b'"magic"', b'"pir"')


_ONNX = "export the network that it was made from as ONNX, or give its weights"
_MXNET = "convert the network to ONNX: mxnet.onnx.export_model(SYMBOL, PARAMS, [(1, 3, 224, 224)])"
_SAVED = "python -m tf2onnx.convert --saved-model {folder} --output model.onnx"
KINDS = (
    Kind(
        "a TensorFlow Lite model",
        "convert it: python -m tf2onnx.convert --tflite {path} --output model.onnx",
        _identifier(b"TFL3"),
    ),
    Kind(
        "a TensorFlow SavedModel",
        f"convert it: {_SAVED.replace('{folder}', '{path}')}",
        lambda content: content.is_folder and bool({"saved_model.pb", "saved_model.pbtxt"} & content.names),
    ),
    Kind("the graph of a TensorFlow SavedModel", f"convert its folder: {_SAVED}", _saved_model),
    Kind(
        "a checkpoint of TensorFlow 1",
        "convert it: python -m tf2onnx.convert --checkpoint {path} --inputs INPUT:0 --outputs OUTPUT:0 "
        "--output model.onnx",
        _meta_graph,
    ),
    Kind(
        "a TensorFlow graph",
        "convert it: python -m tf2onnx.convert --graphdef {path} --inputs INPUT:0 --outputs OUTPUT:0 "
        "--output model.onnx",
        _graph_def,
    ),
    Kind(
        "a part of a TensorFlow checkpoint",
        "build the network in Keras, load the weights into it, and save both: model.save('model.keras')",
        _named(r"(\.data-\d{5}-of-\d{5}|\.ckpt[\w.-]*\.index)$"),
    ),
    Kind(
        "a model of TensorFlow.js",
        "convert it: tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras {path} "
        "model.h5",
        lambda content: _text(content, b"{", b'"modelTopology"'),
    ),
    Kind(
        "the layers of a Keras network without its weights",
        "save both in one file: model.save('model.keras')",
        lambda content: _text(content, b"{", b'"class_name"', b'"config"'),
    ),
    Kind(
        "a part of a Hugging Face folder",
        "give the folder: {folder}",
        lambda content: _text(content, b"{", b'"architectures"') or _text(content, b"{", b'"weight_map"'),
    ),
    Kind(
        "a PaddlePaddle model",
        "convert it: paddle2onnx --model_dir FOLDER --model_filename inference.pdmodel --params_filename "
        "inference.pdiparams --save_file model.onnx",
        _paddle,
    ),
    Kind(
        "the layers of a Caffe network",
        "convert it: python -m caffe2onnx.convert --prototxt {path} --caffemodel FILE --onnx model.onnx",
        lambda content: _text(content, b"", b"layer", b"type:", b"bottom:"),
    ),
    Kind(
        "the weights of a Caffe network",
        "convert it: python -m caffe2onnx.convert --prototxt FILE --caffemodel {path} --onnx model.onnx",
        _caffe_weights,
    ),
    Kind(
        "the layers of a Darknet network",
        "convert it with its weights to ONNX, for example with darknet2any",
        lambda content: _text(content, b"[net]"),
    ),
    Kind(
        "the weights of a Darknet network",
        "convert them with their .cfg file to ONNX, for example with darknet2any",
        lambda content: _named(r"\.weights$")(content) and content.head[:4] in {bytes(4), b"\1\0\0\0"},
    ),
    Kind("weights of MXNet", _MXNET, lambda content: content.head[:8] == b"\x12\1" + bytes(6)),
    Kind("the layers of an MXNet network", _MXNET, lambda content: _text(content, b"{", b'"mxnet_version"')),
    Kind("weights of Flax", _ONNX, _named(r"\.msgpack$")),
    Kind(
        "weights as NumPy arrays",
        "load them into the network, and save it: torch.save(model.state_dict(), 'model.pt')",
        lambda content: (
            content.head[:6] == b"\x93NUMPY"
            or (
                content.is_zip
                and bool(content.names)
                and all(name.endswith(".npy") for name in content.names)
            )
        ),
    ),
    Kind(
        "a model of decision trees",
        "detrojan judges neural networks that classify images",
        lambda content: _text(content, b"{", b'"gradient_booster"') or _text(content, b"tree\nversion="),
    ),
    Kind(
        "a pickle of scikit-learn or joblib",
        "detrojan judges neural networks that classify images",
        _other_learners,
    ),
    Kind("a Core ML model", _ONNX, _core_ml),
    Kind(
        "a Core ML package",
        _ONNX,
        lambda content: content.is_folder and {"Manifest.json", "Data"} <= content.names,
    ),
    Kind("a TensorRT engine", _ONNX, lambda content: content.head[:4] in {b"ftrt", b"trtf"}),
    Kind("an OpenVINO model", _ONNX, _open_vino),
    Kind("the weights of an OpenVINO model", _ONNX, _named(r"\.bin$", ".xml")),
    Kind("the weights of an ncnn model", _ONNX, _named(r"\.bin$", ".param")),
    Kind(
        "a model of ONNX Runtime's own format",
        "give the .onnx file that it was made from",
        _identifier(b"ORTM"),
    ),
    Kind("an ExecuTorch program", _ONNX, _identifier(b"ET12")),
    Kind("an ncnn model", _ONNX, lambda content: content.head[:7] == b"7767517"),
    Kind(
        "a network compiled by AOTInductor",
        "save it before it is compiled: torch.export.save(program, 'model.pt2')",
        lambda content: content.is_zip and any("/aotinductor/" in name for name in content.names),
    ),
    Kind(
        "a language model (GGUF)",
        "detrojan judges neural networks that classify images",
        lambda content: content.head[:4] == b"GGUF",
    ),
)


def kind_of(content: Content) -> Kind | None:
    """Return the known kind that a file or folder is of, or None."""
    return next((kind for kind in KINDS if kind.fits(content)), None)


class ForeignFile(Format):
    """A file of a kind that is known, but not read."""

    name = "foreign"
    kind = ""
    listed = ()
    precedence = 15

    def recognises(self, content: Content) -> bool:
        """Tell whether a file is of one of the known kinds."""
        return kind_of(content) is not None

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Refuse it, and say what helps.

        Raises:
            ModelError: always.

        """
        found = kind_of(Content(path))
        assert found is not None
        helps = found.helps.format(path=path, folder=path.parent)
        raise ModelError(f"{path}: expected a model that is read, got {found.name}; {helps}")


class ForeignFolder(ForeignFile):
    """A folder of a kind that is known, but not read."""

    name = "foreign folder"
    folder = True

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return none: nothing of it is read."""
        return ()
