"""Takes models as people have them in Python: paths, modules, functions, and how they are fed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import nn

from detrojan.data.pixels import parse_range
from detrojan.errors import ModelError, OptionError
from detrojan.jobs.feeding import stated_preprocessing, without_auto
from detrojan.jobs.inputs import load_model_of
from detrojan.jobs.sources import ModelSource
from detrojan.machine import check_device, device_named
from detrojan.models.blackbox import BlackBox
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.formats.program import Program
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run

#: what stands for a model: a file, a network, one with its preprocessing, or a function that answers scores
ModelLike = str | Path | nn.Module | Classifier | Callable[[Any], Any]
#: what is stated of the preprocessing
_FED = frozenset({"preprocess", "input_range", "mean", "std", "layout"})


class Feeding(TypedDict, total=False):
    """How a model is built and fed, where its file does not say.

    Attributes:
        net: the network that a file's weights belong to.
        factory: the caller's own code that makes the network, "package.module:function"; it is run.
        classes: how many classes it must have.
        input_shape: (C, H, W).
        preprocess: the name of a usual preprocessing, such as "imagenet", a JSON file, or "auto"; what
            follows goes before it.
        input_range: black and white as the network takes them, as (0, 255) or "0-255", or "auto".
        mean: subtracted per channel, in units of the input range.
        std: divided by per channel, in the same units.
        layout: "NCHW" or "NHWC".
        class_names: one name per class.
        allow_unsafe: whether the code that a pickle holds may run.
        output: which of several outputs answers the classes, by its name or its place.
        key: which of several networks in a file is judged.
        url: the server that answers as the model, whose name there is given instead of a path.
        input_name: the input that takes the images, where a server has several.
        timeout: seconds that a server is waited for, each time.

    """

    net: str
    factory: str
    classes: int
    input_shape: tuple[int, int, int]
    preprocess: str
    input_range: tuple[float, float] | str
    mean: Sequence[float] | float
    std: Sequence[float] | float
    layout: Literal["NCHW", "NHWC"]
    class_names: Sequence[str]
    allow_unsafe: bool
    output: str
    key: str
    url: str
    input_name: str
    timeout: float


def classifier(
    model: ModelLike,
    feeding: Feeding | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    device: str = "auto",
) -> Classifier:
    """Return a model as a classifier.

    Args:
        model: a file or folder, an `nn.Module` that answers logits, a `Classifier`, or any callable: it is
            given an array, or else a tensor (N, C, H, W), and answers scores (N, K). With `url` the name of
            a model at a server.
        feeding: how it is built and fed.
        shape: (C, H, W) of the images at hand, for a module that nothing else is known of.
        device: where it computes; "auto" for the best one here.

    Raises:
        ModelError: it cannot be read, or does not answer logits.
        OptionError: options that do not go with such a model, or a device that is not there.

    """
    said = checked(feeding)
    check_device(device_named(device))
    names = tuple(said.pop("class_names", ()))
    if isinstance(model, str | Path):
        found = load_model_of(without_auto(ModelSource(model=Path(model), **said)), Run(device=device))
        return _named(found, names) if names else found
    if isinstance(model, Classifier):
        if said or names:
            raise OptionError(f"expected no options beside a Classifier, got {', '.join([*said, *names])}")
        return _on(model, device)
    if not callable(model):
        ask = getattr(model, "predict_proba", None)
        if not callable(ask):
            hint = "; load_state_dict puts weights into a network" if isinstance(model, Mapping) else ""
            raise ModelError(
                "expected a path, an nn.Module, a Classifier, a callable or an object with predict_proba as "
                f"the model, got {type(model).__name__}{hint}"
            )
        model = ask
    return _of_module(model, said, names, shape, device)


def checked(feeding: Feeding | None) -> dict[str, Any]:
    """Return what is stated of a model's feeding, in one form.

    Raises:
        OptionError: an option that is not known, or a value that means nothing.

    """
    said: dict[str, Any] = {name: value for name, value in (feeding or {}).items() if value is not None}
    unknown = sorted(set(said) - set(Feeding.__annotations__))
    if unknown:
        known = ", ".join(Feeding.__annotations__)
        raise OptionError(f"expected options out of {known}; got {', '.join(unknown)}")
    for name in {"mean", "std"} & set(said):
        said[name] = _numbers(name, said[name])
    if said.get("input_range", "auto") != "auto":
        given = said["input_range"]
        said["input_range"] = low, high = (
            parse_range(given) if isinstance(given, str) else _numbers("input_range", given, (2,))
        )
        if not low < high:
            raise OptionError(f"expected an input_range (low, high), low before high, got {given!r}")
    if "input_shape" in said:
        sides = _numbers("input_shape", said["input_shape"], (3,))
        if any(side < 1 or side != int(side) for side in sides):
            raise OptionError(f"expected input_shape=(C, H, W), got {said['input_shape']!r}")
        said["input_shape"] = tuple(int(side) for side in sides)
    return said


def _numbers(name: str, given: Any, counts: Sequence[int] = ()) -> tuple[float, ...]:
    """Return one number or a sequence of them as finite floats."""
    try:
        found = tuple(float(value) for value in np.atleast_1d(np.asarray(given)).tolist())
    except (TypeError, ValueError):
        found = ()
    if not found or not np.isfinite(found).all() or (counts and len(found) not in counts):
        wanted = " or ".join(map(str, counts)) + " numbers" if counts else "a number, or one per channel,"
        raise OptionError(f"expected {wanted} as {name}, got {given!r:.80}")
    return found


def feeding_source(feeding: Feeding) -> ModelSource:
    """Return what is stated of the preprocessing alone, for what is found out by trials."""
    stated = {name: value for name, value in checked(feeding).items() if name in _FED}
    return ModelSource(model=Path(), **stated)


def _on(model: Classifier, device: str) -> Classifier:
    """Return a classifier on a device: itself where it is there, else a copy; the caller's stays."""
    wanted = torch.device(device_named(device))
    there = model.answers_only or (
        model.device.type == wanted.type and wanted.index in {None, model.device.index}
    )
    return model if there else model.copy().to(wanted)


def _named(model: Classifier, names: tuple[str, ...]) -> Classifier:
    if len(names) != model.num_classes:
        raise ModelError(f"expected {model.num_classes} class names, one per output, got {len(names)}")
    model = model.with_preprocessing(model.preprocessing)
    model.class_names = names
    return model


def _of_module(
    network: Callable[[Any], Any],
    said: dict[str, Any],
    names: tuple[str, ...],
    shape: tuple[int, int, int] | None,
    device: str,
) -> Classifier:
    told = {"net", "factory", "allow_unsafe", "key", "url", "input_name", "timeout"} & set(said)
    if told:
        raise OptionError(f"expected {', '.join(sorted(told))} only beside a file, got a module")
    size = said.get("input_shape") or shape
    if size is None:
        raise OptionError("expected input_shape=(C, H, W) for a module, since no images say it")
    fed = {name: value for name, value in said.items() if name in _FED}
    stated = without_auto(ModelSource(model=Path(), **fed))
    told_more: dict[str, Any] = {
        "preprocessing": stated_preprocessing(stated, Preprocessing()),
        "class_names": names,
        "output": said.get("output"),
    }
    if isinstance(network, torch.jit.ScriptModule):
        network = Program(network)
    if isinstance(network, nn.Module):
        network, notes = _in_float32(network)
        model = _on(Classifier(network, size, origin=Origin(notes=notes), **told_more), device)
    else:
        model = BlackBox(network, size, **told_more)
    if said.get("classes", model.num_classes) != model.num_classes:
        raise ModelError(f"expected {said['classes']} classes as asked, got {model.num_classes} outputs")
    return model


def _in_float32(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network that computes in float32: itself, or a copy of one that computes otherwise."""
    values = [*network.parameters(), *network.buffers()]
    kinds = {value.dtype for value in values if value.is_floating_point()} - {torch.float32}
    if not kinds:
        return network, ()
    shown = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return copy.deepcopy(network).float(), (f"the network is judged in float32, it has numbers of {shown}",)
