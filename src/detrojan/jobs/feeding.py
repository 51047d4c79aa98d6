"""How a network is fed: what the user states, what is found out by trials, and whether the two agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from detrojan.data.channels import Colours, with_channels
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.synthetic import is_made_up
from detrojan.errors import ModelError, OptionError
from detrojan.jobs.sources import ModelSource
from detrojan.metrics.chance import chance_warning
from detrojan.metrics.feeding import reversed_channels
from detrojan.metrics.input_range import NEAR, RangeCheck, check_input_range, with_best_range
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import PRESETS, Framing, Preprocessing, preset
from detrojan.models.preprocessing_file import read_preprocessing

#: a network that is fed wrongly is warned of, refused, or left to the job, which checks it itself
Check = Literal["warn", "refuse", "later"]
#: fewer images tell nothing
FEWEST = 20
#: images that an accuracy is compared with chance on
MOST = 1000


def automatic(source: ModelSource) -> Literal["", "range", "preprocess"]:
    """Return what is to be found out by trials: nothing, the range, or all of the preprocessing.

    Raises:
        OptionError: something is stated besides that depends on it.

    """
    stated = source.mean is not None or source.std is not None
    if source.preprocess == "auto":
        if stated or source.input_range is not None:
            raise OptionError("expected --preprocess auto without --input-range, --mean and --std")
        return "preprocess"
    if source.input_range != "auto":
        return ""
    if stated:
        raise OptionError("expected --input-range auto without --mean and --std, which are in its units")
    return "range"


def without_auto(source: ModelSource) -> ModelSource:
    """Return the source with what the model itself states instead of "auto"."""
    return replace(
        source,
        preprocess=None if source.preprocess == "auto" else source.preprocess,
        input_range=None if source.input_range == "auto" else source.input_range,
    )


def stated_preprocessing(source: ModelSource, own: Preprocessing) -> Preprocessing:
    """Return what the source states of a network's preprocessing, and what the network does for the rest.

    Raises:
        OptionError: "auto", where there are no data to find it by, or no such preset.
        InputError: a file that cannot be read.

    """
    if "auto" in (source.preprocess, source.input_range):
        option = "--preprocess NAME" if source.preprocess == "auto" else "--input-range LOW-HIGH"
        raise OptionError(f"expected {option} here, got auto: there are no data to find it by")
    if source.preprocess is not None:
        chosen = _named(source.preprocess)
        framing = chosen.framing or own.framing
        layout = own.layout if source.preprocess in PRESETS else chosen.layout
        own = replace(chosen, framing=framing, layout=layout)
    if source.bgr and own.channels != "BGR":
        own = reversed_channels(own)
    stated: dict[str, Any] = {
        name: value for name in ("mean", "std", "layout") if (value := getattr(source, name)) is not None
    }
    if isinstance(source.input_range, tuple):
        stated["low"], stated["high"] = source.input_range
    return replace(own, **stated) if stated else own


def _named(name: str) -> Preprocessing:
    """Return a preset, or what a file says."""
    if name in PRESETS or not Path(name).exists():
        return preset(name)
    return read_preprocessing(Path(name))


def framing_of(network: Classifier) -> Framing:
    """Return how pictures of other sizes are brought to what the network takes."""
    size = network.input_shape[1:]
    stated = network.preprocessing.framing
    return Framing.usual(size) if stated is None else stated.for_size(size)


def recoloured(data: Dataset, network: Classifier, stated: Colours | None = None) -> Dataset:
    """Return the data in the colours that the network takes; what the user states goes before that."""
    if stated is not None:
        return with_channels(data, stated)
    why = ""
    if network.preprocessing.channels == "grey":
        data = with_channels(data, "grey")
    else:
        why = f"since the network takes {'grey' if network.input_shape[0] == 1 else 'coloured'} images"
    wanted: dict[int, Colours] = {1: "grey", 3: "colour"}
    colours = wanted.get(network.input_shape[0])
    return data if colours is None else with_channels(data, colours, why=why)


def feeding_warnings(network: Classifier, data: Dataset, *, check: Check = "warn") -> list[str]:
    """Return what is wrong with how the network is fed, and whether it is right no more often than chance.

    Args:
        network: with its stated preprocessing.
        data: clean images, labelled or not.
        check: whether a network that is clearly fed wrongly is refused.

    Raises:
        ModelError: it is clearly fed wrongly, and that is refused.

    """
    if len(data) < FEWEST or is_made_up(data):
        return []
    if check != "later":
        found = check_input_range(network, data)
        if check == "refuse" and found.clearly_wrong:
            raise ModelError(found.warnings[0])
        if found.warnings:
            return list(found.warnings)
    if data.labels is None or int(data.labels.max()) >= network.num_classes:
        return []
    some = data.select(torch.linspace(0, len(data) - 1, min(MOST, len(data))).long())
    return chance_warning(network.answers(some.images), some.require_labels("measuring"))


def settle(
    network: Classifier, data: Dataset, source: ModelSource, *, check: Check = "warn"
) -> tuple[Classifier, list[str]]:
    """Return the network fed as its source says or as trials find out, and what a person has to know of it.

    Args:
        network: fed as stated.
        data: clean images, labelled or not.
        source: tells whether something is to be found out.
        check: as for `feeding_warnings`.

    Raises:
        OptionError: something is to be found out, and the images are made up.
        ModelError: it is clearly fed wrongly, and that is refused.

    """
    chosen = []
    if auto := automatic(source):
        network, said = best_feeding(network, data, every=auto == "preprocess")
        chosen.append(said)
    return network, [*chosen, *feeding_warnings(network, data, check=check)]


def best_feeding(network: Classifier, data: Dataset, *, every: bool) -> tuple[Classifier, str]:
    """Return the network fed what fits it best, and what was chosen.

    Args:
        network: with its stated preprocessing.
        data: clean images, labelled or not.
        every: try the usual means and standard deviations too, not the range alone.

    Raises:
        OptionError: the images are made up.

    """
    what = "preprocessing" if every else "input range"
    if is_made_up(data):
        option = "--preprocess" if every else "--input-range"
        raise OptionError(f"expected real images to find the {what} by, got {option} auto without")
    fed, check = with_best_range(network, data, every=every, ranges=not every)
    if len(check.trials) == 1:
        return fed, (
            f"input range: {check.stated.name} kept, since the model states a mean and a standard deviation "
            "in its units"
        )
    if _unknown(check):
        return network, (
            f"{what}: it could not be told from these images, which have no labels that fit the network; "
            f"{check.stated.name} kept"
        )
    tried = ", ".join(
        f"{trial.name}: "
        + (
            f"{trial.accuracy:.0%} right"
            if check.labels_fit
            else f"{trial.effective_answers:.0f} labels in use"
        )
        for trial in check.trials
    )
    return fed, f"{what}: {check.best.name} chosen as the one that fits best ({tried})"


def _unknown(check: RangeCheck) -> bool:
    """Whether nothing tells which way is right: no labels, no batch norm, and answers that differ alike."""
    if check.labels_fit or check.best is not check.stated:
        return False
    if check.stated.distance is not None and check.stated.distance < NEAR:
        return False
    had = check.stated.effective_answers
    return any(0.9 * had < trial.effective_answers for trial in check.trials[1:])
