"""Kinds of files that are known, but not read: each is named, with what helps."""

from __future__ import annotations

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


_ONNX = "export the network that it was made from as ONNX, or give its weights"
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
        "a TensorFlow graph",
        "convert it: python -m tf2onnx.convert --graphdef {path} --inputs INPUT:0 --outputs OUTPUT:0 "
        "--output model.onnx",
        _graph_def,
    ),
    Kind(
        "a PaddlePaddle model",
        "convert it: paddle2onnx --model_dir {path} --save_file model.onnx",
        lambda content: content.is_folder and any(name.endswith(".pdmodel") for name in content.names),
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
