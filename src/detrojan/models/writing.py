"""Writes a model in the kind of file or folder it came in, so that its owner can use it as before."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from safetensors import SafetensorError

from detrojan.errors import ModelError
from detrojan.files import replacing, replacing_folder
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format, format_named, formats
from detrojan.models.loading import model_sha256
from detrojan.models.surgery.n_plus_one import NPlusOne
from detrojan.models.weights import check_finite


def save_model(model: Classifier, path: str | Path) -> Path:
    """Write a model, in the kind of file it came in, in one step: the file is whole or not there.

    A Keras file is copied with its arrays replaced, so that plain Keras loads it. A folder is copied to a
    new folder with its weights replaced. A PyTorch model is
    written as a state dict with the keys its file had, or as safetensors if the path says so; one made
    in memory likewise. A model of N + 1 classes is always written as safetensors. Our safetensors
    files say which network they are, so `load_model` needs no name.

    Args:
        model: the model.
        path: where to write it; its suffix has to suit the kind of file.

    Returns:
        The path.

    Raises:
        ModelError: a suffix of another kind, the path of the original, an original that is gone, or a
            folder of something else.
        WeightsError: the network is no longer the one of its file, or has weights that are not finite.

    """
    path = Path(path)
    kind = check_place(model, path)
    original = Path(model.origin.path) if model.origin.path else None
    check_finite(model.network.state_dict(), "the model to be written")
    if kind.copies:
        _check_original(model, original)
    try:
        with _scratch(kind, path) as scratch:
            kind.write(model, scratch)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError) as error:  # so libraries say that a disk is full
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} cannot be written, is the disk full? ({said})") from error
    return path


def check_place(model: Classifier, path: Path) -> Format:
    """Refuse a path to which a model cannot be written, or not without loss; return the format it is for.

    Raises:
        ModelError: a suffix of another kind, the path of the original, or a folder of something else.

    """
    kind = _format_for(model, path)
    original = Path(model.origin.path) if model.origin.path else None
    if original is not None and _same_file(original, path):
        raise ModelError(f"expected another path than the original {original}, which is never overwritten")
    if not kind.folder:
        return kind
    if path.exists() and not path.is_dir():
        raise ModelError(f"expected a folder to write the model to, got the file {path}")
    content = Content(path)
    if content.is_folder and content.names and not kind.recognises(content):
        raise ModelError(
            f"expected a new or empty folder, or one of a model, to write to; {path} holds other files"
        )
    return kind


def _scratch(kind: Format, path: Path) -> AbstractContextManager[Path]:
    """Return what gives a place to write to, which takes the place of `path` at the end.

    Of an older folder all stays that no model is read from.
    """
    if not kind.folder:
        return replacing(path)
    used = {file.name for file in kind.files(path)} if path.is_dir() and any(path.iterdir()) else set()
    return replacing_folder(path, keep=lambda entry: entry.name not in used)


def usual_ending(model: Classifier) -> str:
    """Return the ending by which `save_model` writes a model without being told: where it can, its own.

    A model is written as a copy of its file where its format is one that copies, else as safetensors; one
    that came as a folder too.
    """
    kind = next(one for one in _formats_of(model) if not one.folder)
    name = Path(model.origin.path).name.lower()
    own = [ending for ending in kind.suffixes if kind.copies and name.endswith(ending)]
    return max(own, key=len, default=kind.endings(model)[0])


def usual_endings() -> tuple[str, ...]:
    """Return all endings that `usual_ending` may return."""
    plain, *_ = _free()
    found = [plain.suffixes[0], *(ending for kind in formats() if kind.copies for ending in kind.suffixes)]
    return tuple(dict.fromkeys(found))


def _free() -> list[Format]:
    """Return the formats that write any network."""
    return [kind for kind in formats() if kind.suffixes and not kind.copies]


def _formats_of(model: Classifier) -> list[Format]:
    """Return the formats that this model may be written in, the usual one first."""
    own = format_named(model.origin.format)
    found = [own] if own is not None and own.copies else []
    if "described" in model.origin.details:
        found += [kind for kind in _free() if kind.holds_described]
    found = found or _free()
    return [kind for kind in found if kind.endings(model)]


def _format_for(model: Classifier, path: Path) -> Format:
    """Return the format that writes this model to this path."""
    found = _formats_of(model)
    for kind in found:
        if kind.can_write(model, path):
            return kind
    allowed = ", ".join(ending for kind in found if not kind.folder for ending in kind.endings(model))
    if any(kind.folder for kind in found):
        allowed = f"{allowed}, or the path of a folder,"
    hints = "".join(kind.hint(model) for kind in found)
    what = f"of the format {model.origin.format}" if format_named(model.origin.format) else "made in memory"
    if isinstance(model.network, NPlusOne):
        what = "of N + 1 classes"
    raise ModelError(f"expected a path that ends in {allowed}{hints} for a model {what}, got {path.name!r}")


def _same_file(original: Path, path: Path) -> bool:
    try:
        return path.exists() and original.exists() and path.samefile(original)
    except OSError:
        return path.absolute() == original.absolute()


def _check_original(model: Classifier, original: Path | None) -> None:
    if original is None or not original.exists():
        raise ModelError(f"expected the original {original} to copy its structure from, but it is gone")
    digest = model_sha256(original)
    if digest != model.origin.sha256:
        raise ModelError(
            f"expected the original {original} as it was read (SHA-256 {model.origin.sha256[:12]}...), "
            f"got another file (SHA-256 {digest[:12]}...)"
        )
