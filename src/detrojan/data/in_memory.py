"""Takes images as people have them in Python: arrays, pictures of Pillow's, data sets, loaders, samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

from detrojan.data.decoding import decoded_of, decoding
from detrojan.data.formats.hugging_face import IMAGES, LABELS
from detrojan.data.labels import clean_labels, is_text
from detrojan.data.pictures import facts_of, told_of
from detrojan.data.source import IMAGE_NAMES, Array, Pixels, channels_last
from detrojan.errors import DataError, LabelError, RangeError

#: images that are taken from a data set, a loader, or something that may have no end
MOST_DRAWN = 5000
#: how far rounding may take what was black or white beyond it
ROUNDED = 0.01
#: data sets within data sets, such as a subset's
_DEEPEST = 8
_IMAGE_KEYS = (*IMAGES, *(name for name in IMAGE_NAMES if name not in IMAGES))


@dataclass(frozen=True, kw_only=True)
class Held:
    """Images that were taken.

    Attributes:
        pixels: (N, H, W, C), or a list of (H, W, C).
        labels: (N,) or as `clean_labels` takes them; None where there are none.
        class_names: a name per label, or empty.
        named: the labels were numbered after these names.
        notes: what a person should know about how they were taken.

    """

    pixels: Pixels
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    named: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of the images, grey ones among coloured ones counted as these; None for several sizes."""
        sizes = {image.shape[:2] for image in self.pixels}
        if len(sizes) > 1:
            return None
        ((height, width),) = sizes
        return max(image.shape[2] for image in self.pixels), height, width

    def labelled(self) -> tuple[torch.Tensor | None, Held]:
        """Return the labels as whole numbers (N,), or None, and these images with what was said of labels.

        Raises:
            LabelError: labels that do not go with the images.

        """
        if self.labels is None:
            return None, self
        if self.labels.dtype.kind in "if" and self.labels.size and bool((self.labels == -1).all()):
            return None, replace(self, notes=(*self.notes, "all labels are -1: they stand for unknown ones"))
        count = len(self.pixels)
        labels, names, notes = clean_labels(self.labels, count, self.class_names, "labels")
        named = self.named or is_text(self.labels)
        return torch.from_numpy(labels), replace(
            self, class_names=names, named=named, notes=(*self.notes, *notes)
        )


def held(images: Any, labels: Any, samples: int | None, generator: torch.Generator) -> Held:
    """Return images, and their labels where there are some.

    Args:
        images: an array or tensor, a mapping or a pair of images and labels, a list of pictures or arrays, a
            data set, a loader, or anything else that yields images, pairs, or mappings.
        labels: (N,), where they do not come with the images.
        samples: how many are drawn at random; None for all of an array or a list, and for
            `MOST_DRAWN` of a data set or a loader.
        generator: what they are drawn with.

    Raises:
        DataError: no images, or values that are no images.
        LabelError: labels that do not go with the images.

    """
    images, own = _parts(images)
    if isinstance(images, torch.Tensor | np.ndarray):
        pixels = channels_last(array_of(images), "images")
        marks = values_of(own if labels is None else labels)
        if samples is None:
            return Held(pixels=pixels, labels=marks)
        _check_count(marks, len(pixels))
        order = torch.randperm(len(pixels), generator=generator)[:samples].numpy()
        return Held(pixels=pixels[order], labels=None if marks is None else marks[order])
    source, chosen = _chosen(images, samples, generator)
    found = _drawn(source, samples or MOST_DRAWN, images)
    if labels is None:
        return found
    given = values_of(labels)
    if chosen is not None and given is not None:
        _check_count(given, len(images))
        given = given[chosen]
    return replace(found, labels=given, class_names=(), named=False)


def array_of(values: Any) -> Array:
    """Return one array of numbers, off any device and graph.

    Raises:
        DataError: images of several sizes.

    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    array = np.asarray(values)
    if array.dtype == object:
        raise DataError("expected images of one size, got several: state size=(H, W), or resize them")
    return array


def as_images(images: Any, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return images for a network's input (C, H, W): (N, C, H, W), float32, in [0, 1].

    Args:
        images: a tensor or array (N, C, H, W) or (N, H, W, C), or a list of pictures or arrays; floats in
            [0, 1], integers in 0..255. A tensor of floats (N, C, H, W) is returned as it is, on its device.
        shape: of the network's input; images of another size are returned as they are.

    Raises:
        DataError: no images.
        RangeError: finite values beyond black and white.

    """
    if not isinstance(images, torch.Tensor):
        if not isinstance(images, np.ndarray):
            images = _stacked(images)
        images = torch.from_numpy(np.require(images, requirements=["W"]))
    pixels: torch.Tensor = images
    pixels = pixels.float() if pixels.is_floating_point() else pixels.float() / 255
    if pixels.ndim == 4 and tuple(pixels.shape[1:]) == (*shape[1:], shape[0]) != shape:
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.numel():
        low, high = (float(value) for value in pixels.detach().aminmax())
        if low < -ROUNDED or high > 1 + ROUNDED:  # what is not finite is the guard's to refuse
            raise RangeError(f"expected images in [0, 1] or integers in 0..255, got {low:.4g} to {high:.4g}")
    return pixels


def _stacked(images: Any) -> Array:
    """Return pictures or arrays of one size as one array (N, H, W, C)."""
    if not isinstance(images, list | tuple):
        raise DataError(f"expected a tensor, an array or a list of pictures, got {type(images).__name__}")
    found = held(list(images), None, None, torch.Generator())
    if found.shape is None:
        raise DataError(
            "expected pictures of one size, got several: dataset(pictures, network=model).images brings them "
            "to the network's"
        )
    return np.stack([np.broadcast_to(one, (*one.shape[:2], found.shape[0])) for one in found.pixels])


def values_of(labels: Any) -> Array | None:
    """Return labels as an array: of numbers or of text.

    Raises:
        LabelError: labels of several shapes.

    """
    if labels is None:
        return None
    if isinstance(labels, torch.Tensor):
        return array_of(labels)
    if isinstance(labels, list | tuple):
        labels = [one.numpy(force=True) if isinstance(one, torch.Tensor) else one for one in labels]
    try:
        return np.asarray(labels)
    except ValueError as error:
        raise LabelError(f"expected labels of one shape: {error}") from error


def _check_count(labels: Array | None, count: int) -> None:
    if labels is not None and (labels.ndim == 0 or len(labels) != count):
        raise LabelError(f"expected {count} labels, one per image, got shape {labels.shape}")


def _parts(images: Any) -> tuple[Any, Any]:
    """Return images and labels that stand together in a mapping of arrays, or in a pair of them."""
    if isinstance(images, Mapping):
        key, label = _keys(images)
        return images[key], None if label is None else images[label]
    if isinstance(images, tuple) and len(images) == 2:
        first, second = images
        counted = isinstance(first, torch.Tensor | np.ndarray) and first.ndim in (3, 4)
        if counted and np.ndim(second) == 1 and len(first) == len(second):
            return first, second
    if images is None or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        raise DataError(f"expected images, got {type(images).__name__}")
    return images, None


def _keys(sample: Mapping[Any, Any]) -> tuple[Any, Any | None]:
    """Return under which key of a sample its image stands, and under which its label."""
    known = {str(key).lower(): key for key in sample}
    image = next((known[name] for name in _IMAGE_KEYS if name in known), None)
    if image is None:
        names = ", ".join(repr(name) for name in _IMAGE_KEYS[:4])
        raise DataError(f"expected an image under {names}, ..., got {', '.join(map(repr, sample))}")
    return image, next((known[name] for name in LABELS if name in known), None)


def _chosen(images: Any, samples: int | None, generator: torch.Generator) -> tuple[Any, Array | None]:
    """Return what yields the samples, and which of all they are; None for those that come first.

    Whatever has a length is drawn from at random: a data set is often sorted by its classes.
    """
    source = images.dataset if isinstance(images, DataLoader) else images
    most = samples or (None if isinstance(images, list | tuple) else MOST_DRAWN)
    if not (isinstance(source, Sized) and hasattr(source, "__getitem__")) or most is None:
        return images, None
    if isinstance(images, DataLoader) and (len(source) <= most or not _is_plain(images)):
        return images, None
    items = cast("Callable[[int], Any]", source.__getitem__)
    if samples is None and len(source) <= most:
        return (items(place) for place in range(len(source))), None
    index = torch.randperm(len(source), generator=generator)[:most].numpy()
    return (items(int(place)) for place in index), index


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Whether a loader gives all samples of its data set, as they are."""
    if type(loader.batch_sampler) is not BatchSampler or loader.collate_fn is not default_collate:
        return False
    return type(loader.sampler) in (SequentialSampler, RandomSampler)


@dataclass
class _Collected:
    """Images and labels, one after the other."""

    images: list[Array] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    facts: Counter[str] = field(default_factory=Counter)


def _drawn(source: Iterable[Any], most: int, images: Any) -> Held:
    """Return the first images that a source yields, and their labels where it has them."""
    found, key = _Collected(), None
    for image, label, key in islice(_pairs(source), most):  # noqa: B007 - the last one is used
        found.images.append(channels_last(_picture(image, found.facts)[None], "images")[0])
        if label is not None:
            found.labels.append(label)
    if not found.images:
        raise DataError("expected images, got none")
    if found.labels and len(found.labels) != len(found.images):
        raise LabelError(
            f"expected a label for each of the {len(found.images)} images, got {len(found.labels)}"
        )
    kind = np.result_type(*{image.dtype for image in found.images})
    names, named = _names(images, key) if found.labels else ((), False)
    return Held(
        pixels=[image.astype(kind, copy=False) for image in found.images],
        labels=values_of(found.labels) if found.labels else None,
        class_names=names,
        named=named,
        notes=tuple(told_of(found.facts)),
    )


def _pairs(source: Iterable[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (image, label or None, the label's key or None) of what holds images; batches are taken apart."""
    for item in source:
        image, label, key = _pair(item)
        if isinstance(image, torch.Tensor | np.ndarray) and image.ndim == 4:
            marks = [None] * len(image) if label is None else list(label)
            if len(marks) != len(image):
                raise LabelError(f"expected {len(image)} labels in a batch, got {len(marks)}")
            yield from ((one, mark, key) for one, mark in zip(image, marks, strict=True))
        else:
            yield image, label, key


def _pair(item: Any) -> tuple[Any, Any, Any]:
    if isinstance(item, Mapping):
        key, label = _keys(item)
        return item[key], None if label is None else item[label], label
    if not isinstance(item, tuple | list) or not item:
        return item, None, None
    if isinstance(item[0], list):  # numbers in lists of lists
        return array_of(item), None, None
    image, label = item[0], item[1] if len(item) > 1 else None
    if label is not None and not isinstance(label, str) and np.ndim(label) > 1:
        raise DataError(
            f"expected an image, or a pair of an image and a label, got {type(item).__name__} of {len(item)}"
        )
    return image, label, None


def _picture(image: Any, facts: Counter[str]) -> Array:
    """Return one image as an array; a Pillow picture is decoded as one in a file."""
    if isinstance(image, str | Path):
        raise DataError(f"expected pictures or arrays, got the path {image}: give a list of paths alone")
    if isinstance(image, Image.Image):
        with decoding("a picture of the list"):
            decoded = decoded_of(image, "a picture of the list")
        facts.update(facts_of(decoded))
        pixels = decoded.pixels
        return (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    if isinstance(image, torch.Tensor | np.ndarray):
        array = array_of(image)
        return array[None] if array.ndim == 2 else array
    if isinstance(image, list) and image and isinstance(image[0], list):
        return _picture(array_of(image), facts)
    raise DataError(f"expected images, got {type(image).__name__}")


def _names(images: Any, key: Any) -> tuple[tuple[str, ...], bool]:
    """Return the class names that a data set states, and whether its labels were numbered after them."""
    for _ in range(_DEEPEST):
        features = getattr(images, "features", None)
        stated = getattr(features.get(key), "names", None) if isinstance(features, Mapping) else None
        stated = stated or getattr(images, "classes", None)
        if isinstance(stated, Sequence) and stated and all(isinstance(name, str) for name in stated):
            return tuple(stated), isinstance(getattr(images, "class_to_idx", None), Mapping)
        images = getattr(images, "dataset", None)
        if images is None:
            break
    return (), False
