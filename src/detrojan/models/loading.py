"""Loads a model from any file we can read safely; picks the reader by what the file is."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

from detrojan.errors import ModelError, OptionError, WeightsError
from detrojan.models.classifier import Classifier, Origin, Preprocessing
from detrojan.models.formats.keras.files import read_keras_h5, read_keras_zip
from detrojan.models.formats.safetensors_file import read_safetensors
from detrojan.models.formats.torch_file import read_torch
from detrojan.models.surgery.n_plus_one import BACKDOORED, NPlusOne
from detrojan.models.weights import Architecture, Loaded

_HDF5 = b"\x89HDF\r\n\x1a\n"
_EXPECTED = (
    "expected a model: a PyTorch state dict (.pt, .pth, .tar), .safetensors, .keras, or a Keras .h5 file"
)


def load_model(
    path: str | Path,
    *,
    net: str | None = None,
    factory: str | None = None,
    classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: tuple[str, ...] = (),
    allow_unsafe: bool = False,
) -> Classifier:
    """Load a model; nothing in its file is executed unless `allow_unsafe` says so.

    The kind of file is found from its first bytes, whatever it is called.

    Args:
        path: a PyTorch state dict, a safetensors file, or a Keras file (.keras, full or weights-only .h5).
        net: the network the weights belong to, by its name in `nets`; None to identify it.
        factory: "package.module:function", called without arguments to make the network. This imports
            and runs the caller's own code.
        classes: the number of classes the caller expects.
        input_shape: (C, H, W); None to take it from the file.
        preprocessing: from [0, 1] to what the network wants; None for what the file says, or nothing.
        class_names: one name per class (for a model of N + 1 classes N will do); empty for what the
            file says.
        allow_unsafe: run the code that a pickle contains. Only for files whose author is trusted.

    Raises:
        ModelError: no such file, not a model, damaged, or a network that cannot be told.
        UnsafeFileError: reading the file would run code from it.
        WeightsError: the weights do not fit the network, or are not finite.
        OptionError: options that contradict each other.

    """
    if net is not None and factory is not None:
        raise OptionError(f"expected a network's name or a factory, got both: {net} and {factory}")
    path = Path(path)
    asked = Architecture(net=net, factory=factory, classes=classes, input_shape=input_shape)
    kind = identify(path)
    digest = file_sha256(path)
    found = _read(kind, path, asked, allow_unsafe=allow_unsafe)
    if isinstance(found.network, NPlusOne) and len(class_names) + 1 == len(found.class_names):
        class_names = (*class_names, BACKDOORED)
    model = Classifier(
        found.network,
        found.input_shape,
        preprocessing=preprocessing or found.preprocessing,
        class_names=class_names or found.class_names,
        origin=Origin(
            path=str(path),
            sha256=digest,
            format=found.format,
            net=found.net,
            details=found.details,
            notes=found.notes,
        ),
    )
    if classes is not None and model.num_classes != classes:
        raise WeightsError(
            f"{path}: class count: expected {classes} classes as asked, got {model.num_classes} outputs"
        )
    return model


def _read(kind: str, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
    if kind == "hdf5":
        return read_keras_h5(path, asked)
    if kind == "keras":
        return read_keras_zip(path, asked)
    if kind == "safetensors":
        return read_safetensors(path, asked)
    return read_torch(path, asked, allow_unsafe=allow_unsafe)


def identify(path: Path) -> str:
    """Return what a file is by its content: "hdf5", "keras", "safetensors" or "torch".

    Raises:
        ModelError: no such file, not a file, empty, or no model.

    """
    if not path.exists():
        raise ModelError(f"{_EXPECTED}; {path} does not exist")
    if path.is_dir():
        raise ModelError(f"{_EXPECTED}; {path} is a folder")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise ModelError(f"{_EXPECTED}; {path} is empty")
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        return _identify_zip(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(size, 1 << 20):
        return "safetensors"
    if re.match(rb"\x80[\x02-\x05]", head):
        return "torch"
    raise ModelError(f"{_EXPECTED}; {path} begins with {head[:8]!r}, which is none of them")


def _identify_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path}: a zip that is damaged or cut off: {error}") from error
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    some = ", ".join(sorted(names)[:4]) or "nothing"
    raise ModelError(f"{_EXPECTED}; {path} is a zip that holds {some}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex, read piece by piece.

    Raises:
        ModelError: the file cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
