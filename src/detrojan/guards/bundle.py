"""A guard's folder: the guard, and a copy of its model, so that it can be put into service by itself.

`guard.json` is the one file that counts. It names the other files with their SHA-256. New ones are written
aside, then `guard.json` is replaced in one step, and only then do they take their names. So whatever stops
a save, the folder holds the older guard or the new one, whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from detrojan.catalog import methods
from detrojan.errors import AnswersOnlyError, DataError, InputError, ModelError, OptionError
from detrojan.files import save_text
from detrojan.guards.base import Calibrated, Guard
from detrojan.guards.folder_files import ASIDE, whole
from detrojan.guards.record import OLD_MODEL, TENSORS, VALUES, GuardRecord, Named, NamedModel, read_record
from detrojan.machine import device_named
from detrojan.models.classifier import Classifier
from detrojan.models.endpoint import open_endpoint
from detrojan.models.loading import file_sha256, format_of, load_model
from detrojan.models.metadata import metadata_of, parse_metadata
from detrojan.models.nets import is_net
from detrojan.models.transport import PATIENCE, Patience
from detrojan.models.writing import save_model, usual_ending, usual_endings
from detrojan.tensor_files import read_tensors


def bundle_files(original: Path | None = None) -> tuple[str, ...]:
    """Return the names of all files that a guard's folder may hold.

    Args:
        original: the file of its model, which settles how the copy is called; None for all names.

    """
    return (VALUES, TENSORS, OLD_MODEL, "scores.png", *_model_files(original))


def _model_files(original: Path | None = None) -> tuple[str, ...]:
    """Return the names that the model of a guard's folder may have: one for each ending."""
    endings = usual_endings()
    if original is not None:
        with suppress(ModelError):  # what cannot be read is refused where it is read
            kind = format_of(original)
            endings = kind.suffixes if kind.copies and not kind.folder else endings[:1]
    return tuple(f"model{ending}" for ending in endings)


def check_bundle(folder: Path, original: Path | None = None) -> None:
    """Refuse a folder with a model that no guard has put there: a new guard's model would replace it.

    Args:
        folder: where the guard will be written.
        original: the file of its model; None where that is not known yet.

    Raises:
        InputError: such a model.

    """
    if (folder / VALUES).is_file():
        return
    for name in (OLD_MODEL, *_model_files(original)):
        if (folder / name).exists():
            raise InputError(
                f"expected a folder of the guard's own to write to, got {folder} with a {name} that may be "
                "overwritten by the guard's copy of the model"
            )


def save_guard(guard: Calibrated, folder: str | Path) -> Path:
    """Write a guard without its model: plain JSON, and tensors without pickle.

    Raises:
        InputError: the folder cannot be written.

    """
    return _save(guard, Path(folder), None)


def save_bundle(guard: Calibrated, folder: str | Path) -> Path:
    """Write a guard and its model to a folder that can be put into service by itself.

    Of a model behind a URL its name is written. The model of an older guard is removed last, and no
    other file.

    Raises:
        InputError: the folder cannot be written.
        ModelError: the model cannot be written, or its original lies where the copy would go.

    """
    answers = guard.model.answers_only
    if answers and guard.model.origin.format != "v2":
        raise AnswersOnlyError(
            f"{guard.model.origin.net}: expected a network to write beside the guard, got a callable: "
            "save_guard writes the guard alone"
        )
    return _save(guard, Path(folder), "" if answers else f"model{usual_ending(guard.model)}")


def _save(guard: Calibrated, folder: Path, model: str | None) -> Path:
    if model and _is_original(folder / model, guard.model):
        raise ModelError(f"expected another folder than that of the original {guard.model.origin.path}")
    tensors, values = guard.state()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    names = [TENSORS, *([model] if model else [])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        older = _older_files(folder)
        with _aside(folder, names) as place:
            save_file({**tensors, "clean_scores": guard.clean_scores.contiguous()}, place[TENSORS])
            named = None
            if model == "":
                named = NamedModel(file="", sha256="", metadata=metadata_of(guard.model))
            elif model is not None:
                save_model(guard.model, place[model])
                named = NamedModel(
                    file=model, sha256=file_sha256(place[model]), metadata=metadata_of(guard.model)
                )
            record = GuardRecord(
                kind=guard.method.name,
                hyper_parameters=guard.method.hyper_parameters(),
                threshold=guard.threshold,
                warnings=list(guard.warnings),
                network=guard.model.fingerprint,
                preprocessing=str(guard.model.preprocessing),
                tensors=Named(file=TENSORS, sha256=file_sha256(place[TENSORS])),
                model=named,
                values=values,
            ).model_dump(by_alias=True)
            save_text(folder / VALUES, json.dumps(record, indent=2, allow_nan=False) + "\n")
        for path in older:
            if path.name not in names and not _is_original(path, guard.model):
                path.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write the guard to {folder}: {error}") from error
    return folder


@contextmanager
def _aside(folder: Path, names: list[str]) -> Iterator[dict[str, Path]]:
    """Give files places aside; they take their names when the body has ended.

    After an error they go. What a stopped save leaves may be what `guard.json` names already, and stays:
    the next save writes over it.
    """
    places = {name: folder / f"{ASIDE}{name}" for name in names}
    try:
        yield places
    except Exception:
        for place in places.values():
            with suppress(OSError):
                place.unlink(missing_ok=True)
        raise
    for name, place in places.items():
        place.replace(folder / name)


def _older_files(folder: Path) -> list[Path]:
    """Return the files beside `guard.json` and the tensors that an older guard has put into the folder."""
    try:
        record = read_record(folder)
    except DataError:
        return []
    names = [OLD_MODEL] if not record.tensors.sha256 else []
    if record.model is not None and record.model.file in _model_files():
        names.append(record.model.file)
    return [folder / name for name in names if (folder / name).is_file()]


def _is_original(path: Path, model: Classifier) -> bool:
    original = Path(model.origin.path)
    return bool(model.origin.path) and original.exists() and path.exists() and path.samefile(original)


def load_guard(folder: str | Path, model: Classifier) -> Calibrated:
    """Read a guard for the model it was calibrated for.

    Raises:
        DataError: no guard there, or one that is damaged.
        ModelError: it was calibrated for another network, or for another preprocessing.

    """
    folder = Path(folder)
    record = read_record(folder)
    method = _method(record, folder)
    tensors = _tensors(whole(folder, record.tensors))
    scores = tensors.pop("clean_scores", torch.empty(0))
    if scores.ndim != 1 or not len(scores) or not bool(scores.isfinite().all()):
        raise DataError(f"{folder}: expected clean_scores, one finite number per clean input")
    if record.network != model.fingerprint:
        raise ModelError(
            f"{folder}: expected the network that the guard was calibrated for "
            f"(weights {record.network[:12]}), got another (weights {model.fingerprint[:12]})"
        )
    if record.preprocessing != str(model.preprocessing):
        raise ModelError(
            f"{folder}: expected a model fed with {record.preprocessing}, as the guard was calibrated, "
            f"got {model.preprocessing}"
        )
    common = {
        "model": model,
        "method": method,
        "threshold": record.threshold,
        "clean_scores": scores.double(),
        "warnings": tuple(record.warnings),
    }
    try:
        return method.restored(common, tensors, record.values)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise DataError(f"{folder}: not a valid guard: {type(error).__name__}: {error}") from error


def load_bundle(
    folder: str | Path,
    *,
    device: str = "auto",
    factory: str | None = None,
    url: str | None = None,
    patience: Patience = PATIENCE,
    token: str | None = None,
) -> Calibrated:
    """Read a guard and its model from the folder that `save_bundle` wrote.

    Args:
        folder: where they lie.
        device: a torch device name, or "auto".
        factory: the user's own code that makes the network; what the folder says is never run.
        url: the server of a model that only answers; what the folder says is never asked.
        patience: how long the server is waited for.
        token: that the server asks for; None for what `DETROJAN_UPSTREAM_TOKEN` says.

    Raises:
        DataError: no guard there, or one that is damaged.
        ModelError: its model cannot be read, or is another one.

    """
    folder = Path(folder)
    named = read_record(folder).model
    if named is None:
        raise DataError(f"{folder / VALUES}: expected a guard that was saved with its model, got none")
    if not named.file:
        return load_guard(folder, _served(named, folder, url, patience, token))
    if url is not None:
        raise OptionError(f"{folder}: expected no URL, since the guard's model lies in {named.file}")
    if Path(named.file).name != named.file or not named.file.startswith("model."):
        raise DataError(
            f"{folder / VALUES}: expected a file model.* of the same folder, got {named.file!r:.80}"
        )
    stated = parse_metadata(named.metadata, folder / VALUES)
    known = is_net(stated.net)
    if ":" in stated.net and not known and factory is None:
        raise ModelError(f"{folder}: expected --factory, as {stated.net} made the network")
    model = load_model(
        whole(folder, named),
        net=stated.net if known else None,
        factory=factory,
        preprocessing=stated.preprocessing,
        class_names=stated.class_names,
        input_shape=stated.input_shape,
        output=stated.output or None,
    )
    return load_guard(folder, model.to(device_named(device)))


def asks_a_server(folder: str | Path) -> bool:
    """Return whether a guard was calibrated on a server's answers, so that it needs the server's URL.

    Raises:
        DataError: no guard there, or one that is damaged.

    """
    named = read_record(folder).model
    return named is not None and not named.file


def _served(
    named: NamedModel, folder: Path, url: str | None, patience: Patience, token: str | None
) -> Classifier:
    """Return the model of a guard that was calibrated on a server's answers."""
    stated = parse_metadata(named.metadata, folder / VALUES)
    if url is None:
        raise OptionError(f"{folder}: expected --url URL of the server that answers as {stated.net!r:.80}")
    return open_endpoint(
        url,
        stated.net,
        input_shape=stated.input_shape,
        preprocessing=stated.preprocessing,
        layout=None if stated.preprocessing is None else stated.preprocessing.layout,
        class_names=stated.class_names,
        output=stated.output or None,
        patience=patience,
        token=token,
    )


def _method(record: GuardRecord, folder: Path) -> Guard:
    known = methods("guards")
    kind = known.get(record.kind)
    if kind is None or not issubclass(kind, Guard):
        raise DataError(f"{folder}: expected a guard out of {', '.join(sorted(known))}, got {record.kind!r}")
    names = {one.name for one in fields(kind)}
    if set(record.hyper_parameters) != names:
        raise DataError(
            f"{folder}: expected the hyper-parameters {', '.join(sorted(names))}, "
            f"got {', '.join(sorted(record.hyper_parameters))}"
        )
    try:
        return kind(**record.hyper_parameters)
    except (OptionError, TypeError, OverflowError) as error:
        raise DataError(f"{folder}: its hyper-parameters make no {record.kind} guard: {error}") from error


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_tensors(path)[0]
    except ModelError as error:
        raise DataError(f"{path} is not a guard's tensors: {error}") from error
