"""Loads a model from any file or folder we can read safely; picks the reader by what it is."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from detrojan.errors import ModelError, OptionError, WeightsError
from detrojan.files import at_home, refuse_special
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.effort import check_effort
from detrojan.models.formats.base import Content, Format, expected, format_named, formats
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.surgery.n_plus_one import BACKDOORED, NPlusOne
from detrojan.models.weights import Architecture, Loaded
from detrojan.parsing.strangers import address, stranger


def load_model(
    path: str | Path,
    *,
    net: str | None = None,
    factory: str | None = None,
    classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: tuple[str, ...] = (),
    output: str | None = None,
    key: str | None = None,
    allow_unsafe: bool = False,
) -> Classifier:
    """Load a model; nothing in its file is executed unless `allow_unsafe` says so.

    The kind of file is found from its first bytes, whatever it is called.

    Args:
        path: a file or folder of any kind in `models.formats`, such as a PyTorch state dict or a Keras file.
        net: the network the weights belong to, by its name in `nets`; None to identify it.
        factory: "package.module:function", called without arguments to make the network. This imports
            and runs the caller's own code.
        classes: the number of classes the caller expects.
        input_shape: (C, H, W); None to take it from the file.
        preprocessing: from [0, 1] to what the network wants; None for what the file says, or nothing.
        class_names: one name per class (for a model of N + 1 classes N will do); empty for what the
            file says.
        output: for a network with several outputs the one to judge, by its name or its place; None for what
            the file says.
        key: for a file with several networks the one to judge: the keys or the prefix that lead to it.
        allow_unsafe: run the code that a pickle contains. Only for files whose author is trusted.

    Raises:
        ModelError: no such file, not a model, damaged, or a network that cannot be told.
        UnsafeFileError: reading the file would run code from it.
        WeightsError: the weights do not fit the network, or are not finite.
        OptionError: options that contradict each other.
        MissingExtraError: its format needs a library that is not installed.

    """
    if net is not None and factory is not None:
        raise OptionError(f"expected a network's name or a factory, got both: {net} and {factory}")
    path = at_home(path)
    asked = Architecture(net=net, factory=factory, classes=classes, input_shape=input_shape, key=key)
    found, digest = _read(path, asked, allow_unsafe=allow_unsafe)
    if isinstance(found.network, NPlusOne) and len(class_names) + 1 == len(found.class_names):
        class_names = (*class_names, BACKDOORED)
    model = Classifier(
        found.network.eval(),  # whoever asks it directly asks a network in use
        found.input_shape,
        preprocessing=_fed(found, factory, preprocessing),
        class_names=class_names or found.class_names,
        origin=_origin(path, digest, found),
        output=output or found.output or None,
    )
    if classes is not None and model.num_classes != classes:
        raise WeightsError(
            f"{path}: class count: expected {classes} classes as asked, got {model.num_classes} outputs"
        )
    return model


def _read(path: Path, asked: Architecture, *, allow_unsafe: bool) -> tuple[Loaded, str]:
    """Return what lies at a path, and its digest; a network whose answer costs too much is refused."""
    kind = format_of(path)
    if asked.key is not None and kind.name not in {"torch", "safetensors"}:
        raise OptionError(f"{path}: expected --key for a PyTorch or safetensors file, got {kind.kind}")
    digest = model_sha256(path, kind)
    found = kind.read(path, asked, allow_unsafe=allow_unsafe)
    ours = asked.factory is None and found.net is not None and ":" not in found.net
    check_effort(found.network, found.input_shape, path, plain=ours)
    return found, digest


def _fed(found: Loaded, factory: str | None, stated: Preprocessing | None) -> Preprocessing:
    return in_read_order(found.format, factory, stated or found.preprocessing or Preprocessing())


def in_read_order(name: str, factory: str | None, stated: Preprocessing) -> Preprocessing:
    """Return a preprocessing for a network out of a file of the format called `name`, as it was read.

    Whoever says that the channels of an ONNX or Keras file come last is right about the file. Its
    reader has put them first already, unless a factory made the network.
    """
    kind = format_named(name)
    first = factory is None and kind is not None and kind.channels_first
    return replace(stated, layout="NCHW") if first else stated


def _origin(path: Path, digest: str, found: Loaded) -> Origin:
    return Origin(
        path=str(path),
        sha256=digest,
        format=found.format,
        net=found.net,
        details=found.details,
        notes=found.notes,
    )


def format_of(path: Path) -> Format:
    """Return the format of a file or folder, by its content.

    Raises:
        ModelError: no such file, empty, or no model.

    """
    if not os.path.exists(path):  # noqa: PTH110 - pathlib's raises for a name that is too long
        raise ModelError(address(path) or f"{expected()}; {path} does not exist")
    refuse_special(path, ModelError)
    content = Content(path)
    if not content.is_folder and not content.head:
        raise ModelError(f"{expected()}; {path} is empty")
    for one in formats():
        if one.folder == content.is_folder and one.recognises(content):
            return one
    if content.is_folder:
        held = f"a folder that holds {_some(content)}"
    elif content.is_zip:
        held = f"a zip that holds {_some(content)}"
    elif told := stranger(path):
        raise ModelError(f"{path}: expected a model's file, got {told}")
    else:
        raise ModelError(f"{expected()}; {path} begins with {content.head[:8]!r}, which is none of them")
    raise ModelError(f"{expected()}; {path} is {held}")


def _some(content: Content) -> str:
    return ", ".join(sorted(content.names)[:4]) or "nothing"


def model_sha256(path: Path, kind: Format | None = None) -> str:
    """Return the SHA-256 of a model's file; of several files that of their names and digests.

    Args:
        path: the file or folder.
        kind: its format, where that is known.

    Raises:
        ModelError: no model, or a file that cannot be read.

    """
    files = sorted((kind or format_of(path)).files(path))
    if files == [path]:
        return file_sha256(path)
    total, folder = hashlib.sha256(), path if path.is_dir() else path.parent
    for file in files:
        name = file.relative_to(folder).as_posix()
        total.update(f"{name}\0{file_sha256(file)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


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
