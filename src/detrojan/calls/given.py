"""Takes models and images as people have them in Python: paths, modules, arrays, loaders, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.data.decoding import pixels_of
from detrojan.data.geometry import Size
from detrojan.data.reading import read_held
from detrojan.data.source import Pixels, Source, channels_last
from detrojan.errors import DataError, LabelError, ModelError, OptionError
from detrojan.jobs.feeding import framing_of, recoloured
from detrojan.jobs.inputs import load_data, load_model_of
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.machine import device_named
from detrojan.models.blackbox import BlackBox
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run

#: what stands for a model: a file, a network, one with its preprocessing, or a function that answers scores
ModelLike = str | Path | nn.Module | Classifier | Callable[[Any], Any]
#: what stands for images: a file or folder, a data set, arrays (N, C, H, W) or (N, H, W, C),
#: pictures, a loader
ImagesLike = str | Path | Dataset | torch.Tensor | np.ndarray[Any, Any] | Iterable[Any]
#: images that are taken from something that may have no end
MOST_DRAWN = 5000


class Feeding(TypedDict, total=False):
    """How a model is built and fed, where its file does not say.

    Attributes:
        net: the network that a file's weights belong to.
        factory: the caller's own code that makes the network, "package.module:function"; it is run.
        classes: how many classes it must have.
        input_shape: (C, H, W).
        input_range: black and white as the network takes them, or "auto".
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
    input_range: tuple[float, float] | Literal["auto"]
    mean: Sequence[float]
    std: Sequence[float]
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
        OptionError: options that do not go with such a model.

    """
    said: dict[str, Any] = {name: value for name, value in (feeding or {}).items() if value is not None}
    unknown = sorted(set(said) - set(Feeding.__annotations__))
    if unknown:
        known = ", ".join(Feeding.__annotations__)
        raise OptionError(f"expected options out of {known}; got {', '.join(unknown)}")
    names = tuple(said.pop("class_names", ()))
    for name in ("mean", "std"):
        if name in said:
            said[name] = tuple(float(value) for value in said[name])
    if isinstance(model, str | Path):
        found = load_model_of(ModelSource(model=Path(model), **said), Run(device=device))
        if names:
            found = _named(found, names)
        return found
    if isinstance(model, Classifier):
        if said or names:
            raise OptionError(f"expected no options beside a Classifier, got {', '.join([*said, *names])}")
        return model.to(device_named(device))
    if not callable(model):
        raise ModelError(
            "expected a path, an nn.Module, a Classifier or a callable as the model, got "
            f"{type(model).__name__}"
        )
    return _of_module(model, said, names, shape).to(device_named(device))


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
) -> Classifier:
    told = {"net", "factory", "allow_unsafe", "key", "url", "input_name", "timeout"} & set(said)
    if told:
        raise OptionError(f"expected {', '.join(sorted(told))} only beside a file, got a module")
    size = said.get("input_shape") or shape
    if size is None:
        raise OptionError("expected input_shape=(C, H, W) for a module, since no images say it")
    if said.get("input_range") == "auto":
        raise OptionError('expected an input_range (low, high) for a module, got "auto"')
    low, high = said.get("input_range", (0.0, 1.0))
    fed = {name: said[name] for name in ("mean", "std", "layout") if name in said}
    told_more: dict[str, Any] = {
        "preprocessing": Preprocessing(low=low, high=high, **fed),
        "class_names": names,
        "output": said.get("output"),
    }
    if isinstance(network, nn.Module):
        model = Classifier(network, size, **told_more)
    else:
        model = BlackBox(network, size, **told_more)
    if said.get("classes", model.num_classes) != model.num_classes:
        raise ModelError(f"expected {said['classes']} classes as asked, got {model.num_classes} outputs")
    return model


def dataset(
    images: ImagesLike,
    labels: Any = None,
    *,
    samples: int | None = None,
    size: Size | None = None,
    network: Classifier | None = None,
    run: Run | None = None,
) -> Dataset:
    """Return images as a data set.

    Args:
        images: a file or folder, a `Dataset`, an array or tensor (N, C, H, W), (N, H, W, C) or (N, H, W),
            a list of pictures, or a PyTorch data set or loader of images or (image, label) pairs. Floats
            lie in [0, 1], integers in 0..255: preprocessing is the model's part.
        labels: (N,) whole numbers, where the images come without.
        samples: how many are used, drawn at random; None for all of a file, an array or a list, and for
            the first 5000 of a loader.
        size: (H, W) that all images are brought to.
        network: whose size and colours they are brought to, as its preprocessing says.
        run: the seed that images are drawn with.

    Raises:
        DataError: no images, or values that are no images.
        RangeError: floats outside of [0, 1].
        LabelError: labels that do not go with the images.

    """
    run = run or Run()
    if isinstance(images, str | Path):
        if labels is not None:
            raise OptionError("expected the labels in the file, got labels beside a path")
        return load_data(DataSource(data=str(images), samples=samples, resize=size), run, network=network)
    if isinstance(images, Dataset):
        found = images if labels is None else images.with_labels(_labels(labels, len(images)))
        found = _brought(found, size, network)
    else:
        if isinstance(images, torch.Tensor | np.ndarray):
            pixels: Pixels = channels_last(_array(images), "images")
            own = None
        else:
            pixels, own = _drawn(images, samples or MOST_DRAWN)
        given = own if labels is None else labels
        found = of_pixels(pixels, None if given is None else _labels(given, len(pixels)), size, network)
    return found if samples is None else found.sample(samples, run.generator("data"))


def _brought(data: Dataset, size: Size | None, network: Classifier | None) -> Dataset:
    """Return a data set whose images have a size, or that and the colours of a network."""
    wanted = size if size is not None or network is None else network.input_shape[1:]
    if wanted not in {None, data.shape[1:]}:
        held = of_pixels(data.images.permute(0, 2, 3, 1).numpy(), None, size, network)
        return replace(data, images=held.images, notes=(*data.notes, *held.notes[1:]))
    return data if network is None else recoloured(data, network)


def of_pixels(
    pixels: Pixels,
    labels: torch.Tensor | None = None,
    size: Size | None = None,
    network: Classifier | None = None,
) -> Dataset:
    """Return images as a data set.

    Args:
        pixels: (N, H, W, C), or a list of (H, W, C).
        labels: (N,), or None.
        size: (H, W) that all are brought to.
        network: whose size and colours they are brought to.

    """
    held = Source(where="memory", count=len(pixels), fetch=lambda _: (pixels, []))
    data = read_held(held, size=size, framing=None if network is None else framing_of(network))
    data = data.with_labels(labels)
    return data if network is None else recoloured(data, network)


def _array(values: Any) -> np.ndarray[Any, Any]:
    """Return one array of numbers, off any device and graph."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    if array.dtype == object:
        raise DataError("expected images of one size, got several: state size=(H, W), or resize them")
    return array


def _labels(values: Any, count: int) -> torch.Tensor:
    array = _array(values)
    if array.shape != (count,) or array.dtype.kind not in "iub":
        raise LabelError(
            f"expected {count} whole numbers as labels, one per image, got {array.dtype} {array.shape}"
        )
    return torch.from_numpy(array.astype(np.int64))


def _drawn(source: Iterable[Any], most: int) -> tuple[Pixels, np.ndarray[Any, Any] | None]:
    """Return the images of a list, a data set or a loader, and their labels where it has them."""
    images: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    for image, label in islice(_pairs(source), most):
        images.append(channels_last(_picture(image)[None], "images")[0])
        if label is not None:
            labels.append(label)
    if not images:
        raise DataError("expected images, got none")
    if labels and len(labels) != len(images):
        raise LabelError(f"expected a label for each of the {len(images)} images, got {len(labels)}")
    kind = np.result_type(*{image.dtype for image in images})
    return [image.astype(kind, copy=False) for image in images], np.asarray(labels) if labels else None


def _pairs(source: Iterable[Any]) -> Iterator[tuple[Any, int | None]]:
    """Yield (image, label or None) of whatever holds images; batches are taken apart."""
    if not hasattr(source, "__iter__") and hasattr(source, "__getitem__") and isinstance(source, Sized):
        items = cast("Callable[[int], Any]", source.__getitem__)
        source = (items(place) for place in range(len(source)))  # a PyTorch data set
    elif isinstance(source, torch.utils.data.Dataset) and isinstance(source, Sized):
        held = cast("Any", source)
        source = (held[place] for place in range(len(held)))
    for item in source:
        image, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        if isinstance(image, torch.Tensor | np.ndarray) and image.ndim == 4:
            marks = [None] * len(image) if label is None else [int(one) for one in label]
            yield from zip(image, marks, strict=True)
        else:
            yield image, None if label is None else int(label)


def _picture(image: Any) -> np.ndarray[Any, Any]:
    """Return one image as an array; a Pillow picture is decoded as one in a file."""
    if isinstance(image, str | Path):
        raise DataError(
            f"expected pictures or arrays in a list, got the path {image}: give the folder instead"
        )
    if isinstance(image, Image.Image):
        pixels = pixels_of(image, "a picture of the list")[0]
        if pixels.dtype == np.uint16:
            pixels = (pixels // 257).astype(np.uint8)
        return pixels[..., None] if pixels.ndim == 2 else pixels
    if isinstance(image, torch.Tensor | np.ndarray):
        array = _array(image)
        return array[None] if array.ndim == 2 else array
    raise DataError(f"expected images, got {type(image).__name__}")
