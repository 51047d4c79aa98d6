"""Loads the model and the data that a job was given, and makes sure that they fit each other."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

from detrojan.data.channels import with_channels
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.synthetic import NONE, synthetic
from detrojan.data.reading import DataPath, read_data
from detrojan.data.shaping import framing_notes
from detrojan.data.splits import training_splits
from detrojan.errors import DataError, InputError, ModelError, OptionError
from detrojan.files import read_bounded
from detrojan.jobs.feeding import (
    Check,
    automatic,
    framing_of,
    recoloured,
    settle,
    stated_preprocessing,
    without_auto,
)
from detrojan.jobs.labelling import with_names, with_usable_labels
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.models.classifier import Classifier
from detrojan.models.endpoint import open_endpoint
from detrojan.models.loading import in_read_order, load_model
from detrojan.models.preprocessing import Framing
from detrojan.models.transport import Patience
from detrojan.run import Run

logger = logging.getLogger(__name__)

#: images that are made up where neither the user nor the method says how many
MADE_UP = 1000
#: a file of class names is not longer, in bytes
_MOST_NAMES = 2**22


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A model, the data for it, and what a person has to know about the two."""

    model: Classifier
    data: Dataset
    warnings: tuple[str, ...]


def load_inputs(
    model: ModelSource,
    data: DataSource,
    run: Run,
    *,
    limit: int | None = None,
    strict: bool = False,
    stand_ins: bool = False,
    check: Check = "warn",
) -> Inputs:
    """Load both; labels that cannot be the model's are dropped with a warning.

    Args:
        model: which model.
        data: which data.
        run: device and seed.
        limit: how many images to read where the user did not say.
        strict: refuse labels that cannot be the model's.
        stand_ins: make images up for `--data none`.
        check: whether a network that is fed wrongly is warned of or refused; "later" where the job checks it.

    Raises:
        LabelError: such labels, if `strict`.
        DataError: images that cannot be brought to the model's shape without a guess.
        ModelError: a network that is clearly fed wrongly, if that is refused.

    """
    automatic(model)  # what contradicts itself is refused before the work
    network = _remembering(load_model_of(without_auto(model), run), data.resize)
    images, told = _images_for(network, data, run, limit, stand_ins=stand_ins)
    images, more = with_usable_labels(network, images, strict=strict)
    network, fed = settle(network, images, model, check=check)
    images, reordered = with_names(network, images)
    warnings = [*network.origin.notes, *fed, *told, *more, *reordered]
    return Inputs(model=network, data=images, warnings=tuple(dict.fromkeys(warnings)))


def _remembering(network: Classifier, resize: tuple[int, int] | None) -> Classifier:
    """Return the network with a stated size as its framing, which its guard, or its repaired copy, keeps."""
    if resize != network.input_shape[1:]:
        return network
    framing = Framing(resize=resize)
    return network.with_preprocessing(replace(network.preprocessing, framing=framing))


def _images_for(
    network: Classifier, data: DataSource, run: Run, limit: int | None, *, stand_ins: bool
) -> tuple[Dataset, list[str]]:
    """Return images of the network's shape, and what a person has to know of them."""
    if stand_ins and data.data == NONE:
        count = data.samples or limit or MADE_UP
        made = synthetic(count, network.input_shape, seed=run.derived_seed("data"))
        return made, [
            (
                "no data: made-up images stand in, so that clean accuracy is unknown, the input range and "
                "the preprocessing cannot be verified, and a recovered trigger was tried on nothing real"
            )
        ]
    return load_data(data, run, limit=limit, network=network), []


def load_model_of(source: ModelSource, run: Run) -> Classifier:
    """Load the model as its source says, on the run's device."""
    return load_model_at(source.model, source, run)


def load_model_at(path: Path, source: ModelSource, run: Run) -> Classifier:
    """Load the model at `path`, built and fed as the source says.

    Raises:
        ModelError: it cannot be read, or does not fit the source.

    """
    names = () if source.class_names is None else _names(source.class_names)
    if source.url is not None:
        return _served(path, source, names)
    if source.input_name is not None:
        raise OptionError("expected --input beside --url, got a file")
    model = load_model(
        path,
        net=source.net,
        factory=source.factory,
        classes=source.classes,
        input_shape=source.input_shape,
        class_names=names,
        output=source.output,
        key=source.key,
        allow_unsafe=source.allow_unsafe,
    )
    stated = stated_preprocessing(source, model.preprocessing)
    stated = in_read_order(model.origin.format, source.factory, stated)
    if stated != model.preprocessing:
        model = model.with_preprocessing(stated)
    return model.to(run.device)


def _served(path: Path, source: ModelSource, names: tuple[str, ...]) -> Classifier:
    """Return the model that a server answers as."""
    assert source.url is not None
    given = {"--net": source.net, "--factory": source.factory, "--allow-unsafe": source.allow_unsafe}
    if wrong := [option for option, value in given.items() if value]:
        raise OptionError(f"expected {', '.join(wrong)} beside a file only, got --url {source.url}")
    if not 0 < source.timeout < math.inf:
        raise OptionError(f"expected a timeout above 0, got {source.timeout:g}")
    model = open_endpoint(
        source.url,
        str(path),
        input_name=source.input_name,
        output=source.output,
        input_shape=source.input_shape,
        layout=source.layout,
        class_names=names,
        patience=Patience(timeout=source.timeout),
    )
    if source.classes not in {None, model.num_classes}:
        raise ModelError(
            f"{model.origin.path}: expected {source.classes} classes as asked, "
            f"got {model.num_classes} outputs"
        )
    stated = stated_preprocessing(source, model.preprocessing)
    return model.with_preprocessing(replace(stated, layout=model.preprocessing.layout))


def _names(path: Path) -> tuple[str, ...]:
    try:
        text = read_bounded(path, _MOST_NAMES).decode("utf-8")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a name per line or a JSON list of names: {error}") from error
    found = tuple(name for name in (str(name).strip() for name in names) if name)
    if not found:
        raise InputError(f"{path}: expected a name per line or a JSON list of names, got none")
    return found


def load_data(
    source: DataSource,
    run: Run,
    *,
    limit: int | None = None,
    path: DataPath | None = None,
    network: Classifier | None = None,
) -> Dataset:
    """Read the data as their source says, and as a network takes them.

    Args:
        source: which data, and how they are read.
        run: the seed that images are drawn with.
        limit: how many images where the user did not say.
        path: where they lie, where it is not where the source says.
        network: whose size and colours images are brought to, as its preprocessing says.

    Raises:
        DataError: they cannot be read, or cannot be brought to the network's shape without a guess.

    """
    path = path or source.data
    if path is None:
        raise OptionError("expected --data PATH")
    data = read_data(
        path,
        split=source.split,
        data_range=source.data_range,
        resize=source.resize,
        framing=None if network is None else framing_of(network),
        crop=source.crop,
        unlabelled=source.unlabelled,
        limit=source.samples or limit,
        strict=source.strict,
        generator=run.generator("data"),
    )
    if network is None:
        return data if source.channels is None else with_channels(data, source.channels)
    for note in framing_notes(data.notes):
        logger.info("%s", note)
    data = recoloured(data, network, source.channels)
    check_shape(network, data)
    return data


def check_shape(model: Classifier, data: Dataset) -> None:
    """Refuse images of another shape, and say how they can be brought to the right one.

    Raises:
        DataError: another number of channels, or another size.

    """
    try:
        model.check(data.images)
    except DataError as error:
        channels, height, width = model.input_shape
        ways = [] if data.shape[1:] == (height, width) else [f"--resize {height}x{width}"]
        if data.shape[0] != channels:
            ways.append(f"--channels {'grey' if channels == 1 else 'colour'}")
        hint = f"; bring them to it with {' and '.join(ways)}"
        raise DataError(f"{data.source}: {error}{hint}") from error


def training_data(
    source: DataSource, test: str | None, run: Run, *, purpose: str, measuring: str
) -> tuple[Dataset, Dataset | None]:
    """Return labelled data to train on, and held-out data where there are some.

    Args:
        source: which data; their train split, where they have one and none is stated.
        test: where the held-out data lie; None takes the test split, if no split is stated.
        run: the seed that images are drawn with.
        purpose: what labels are needed for, in a few words.
        measuring: what the held-out labels are needed for.

    Raises:
        LabelError: no labels.
        InputError: held-out images of another shape.

    """
    chosen, held_out = training_splits(source.data or "", source.split)
    train = load_data(replace(source, split=chosen), run)
    train.require_labels(purpose)
    if test is not None:
        held = load_data(replace(source, split=None, samples=None), run, path=test)
    elif held_out is not None:
        held = load_data(replace(source, split=held_out, samples=None), run)
    else:
        return train, None
    held.require_labels(measuring)
    if held.shape != train.shape:
        raise InputError(f"expected held-out images of shape {train.shape}, got {held.shape}")
    return train, held
