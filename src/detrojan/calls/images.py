"""Takes images as people have them in Python, and brings them to a size or to what a network takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.data.dataset import Dataset
from detrojan.data.geometry import Size
from detrojan.data.in_memory import ROUNDED, Held, held, values_of
from detrojan.data.reading import DataPath, read_held
from detrojan.data.source import Array, Source
from detrojan.errors import OptionError, RangeError
from detrojan.jobs.feeding import framing_of, recoloured
from detrojan.jobs.inputs import load_data
from detrojan.jobs.sources import DataSource
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run

#: what stands for images: a file, a folder or a list of files, a data set, arrays (N, C, H, W) or
#: (N, H, W, C), pictures, a loader
ImagesLike = str | Path | Dataset | torch.Tensor | np.ndarray[Any, Any] | Iterable[Any]
_TO_UNIT = (
    "bring them to [0, 1] or 0..255; where a transform standardises them, leave it out and state mean= "
    "and std="
)


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
        images: a file, a folder or a list of files; a `Dataset`; an array or tensor (N, C, H, W),
            (N, H, W, C) or (N, H, W); a list of pictures; a data set or loader of PyTorch's or Hugging
            Face's, whose samples are images, (image, label) pairs or mappings. Floats lie in [0, 1],
            integers in 0..255: preprocessing is the model's part. Pillow's pictures are treated as those in
            files are.
        labels: (N,) whole numbers or names of classes, where the images come without.
        samples: how many are used, drawn at random; None for all of a file, an array or a list, and for
            5000 of a data set or a loader. Of what has no length the first are taken.
        size: (H, W) that all images are brought to.
        network: whose size and colours they are brought to, as its preprocessing says. Images that its
            preprocessing was done to already are taken back to what they were.
        run: the seed that images are drawn with.

    Raises:
        DataError: no images, or values that are no images.
        RangeError: floats outside of [0, 1].
        LabelError: labels that do not go with the images.

    """
    return taken(images, labels, samples, run or Run())(size, network)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Images that were looked at, and become a data set for a size or a network.

    Attributes:
        make: returns the data set for a size, or None, and a network, or None.
        known: (C, H, W) of the images as they are, where that is known without more.

    """

    make: Callable[[Size | None, Classifier | None], Dataset]
    known: tuple[int, int, int] | None = None

    def __call__(self, size: Size | None, network: Classifier | None) -> Dataset:
        """Return the data set."""
        return self.make(size, network)

    def settled(self) -> Taken:
        """Return the same images, whose shape is known.

        Raises:
            DataError: they are of several sizes.

        """
        return self if self.known is not None else _of_dataset(self.make(None, None))


def taken(images: ImagesLike, labels: Any, samples: int | None, run: Run) -> Taken:
    """Return what makes a data set of images; those in memory are taken once.

    Args:
        images: as for `dataset`.
        labels: as for `dataset`.
        samples: as for `dataset`.
        run: the seed that images are drawn with.

    """
    if samples is not None and samples < 1:
        raise OptionError(f"expected 1 sample or more, got {samples}")
    if isinstance(images, list | tuple) and images and all(isinstance(one, str | Path) for one in images):
        paths = list(images)
        return Taken(make=lambda size, net: _relabelled(_read(paths, samples, size, net, run), labels))
    if isinstance(images, str | Path):
        if labels is not None:
            raise OptionError("expected the labels in the file, got labels beside a path")
        path = str(images)
        return Taken(make=lambda size, network: _read(path, samples, size, network, run))
    if isinstance(images, Dataset):
        known = _relabelled(images, labels)
        return _of_dataset(known if samples is None else known.sample(samples, run.generator("data")))
    memory = held(images, labels, samples, run.generator("data"))
    return Taken(make=lambda size, network: of_held(memory, size, network), known=memory.shape)


def _of_dataset(data: Dataset) -> Taken:
    return Taken(make=lambda size, network: _brought(data, size, network), known=data.shape)


def _read(
    path: DataPath, samples: int | None, size: Size | None, network: Classifier | None, run: Run
) -> Dataset:
    return load_data(DataSource(data=None, samples=samples, resize=size), run, path=path, network=network)


def _relabelled(data: Dataset, labels: Any) -> Dataset:
    """Return a data set with other labels, where some are given."""
    if labels is None:
        return data
    given = Held(pixels=list(data.images), labels=values_of(labels), class_names=data.class_names)
    found, about = given.labelled()
    return replace(data.with_labels(found), class_names=about.class_names, named=about.named)


def _brought(data: Dataset, size: Size | None, network: Classifier | None) -> Dataset:
    """Return a data set whose images have a size, or that and the colours of a network."""
    wanted = size if size is not None or network is None else network.input_shape[1:]
    if wanted not in {None, data.shape[1:]}:
        held_again = Held(pixels=data.images.permute(0, 2, 3, 1).numpy())
        made = of_held(held_again, size, network)
        return replace(data, images=made.images, notes=(*data.notes, *made.notes[1:]))
    return data if network is None else recoloured(data, network)


def of_held(memory: Held, size: Size | None = None, network: Classifier | None = None) -> Dataset:
    """Return images that lie in memory as a data set.

    Args:
        memory: the images, and their labels where there are some.
        size: (H, W) that all are brought to.
        network: whose size and colours they are brought to.

    """
    labels, memory = memory.labelled()
    memory = memory if network is None else _without_preprocessing(memory, network.preprocessing)
    source = Source(where="memory", count=len(memory.pixels), fetch=lambda _: (memory.pixels, []))
    try:
        data = read_held(source, size=size, framing=None if network is None else framing_of(network))
    except RangeError as error:
        raise RangeError(f"{str(error).partition('; ')[0]}; {_TO_UNIT}") from error
    data = replace(
        data.with_labels(labels),
        class_names=memory.class_names,
        named=memory.named and labels is not None,
        notes=(*data.notes, *memory.notes),
    )
    return data if network is None else recoloured(data, network)


def _without_preprocessing(memory: Held, preprocessing: Preprocessing) -> Held:
    """Return images that were prepared for a network as they were before.

    They are floats outside of [0, 1], as a loader whose transform standardises them gives, and what the
    network's preprocessing makes of images in [0, 1].
    """
    if memory.pixels[0].dtype.kind != "f" or all(_unit(image) for image in memory.pixels):
        return memory
    pixels = [torch.from_numpy(np.array(image, np.float32)) for image in memory.pixels]
    channels = {image.shape[-1] for image in pixels}
    fits = max(len(preprocessing.mean), len(preprocessing.std)) in {1, *channels} and len(channels) == 1
    if not fits or preprocessing == replace(Preprocessing(), framing=preprocessing.framing):
        return memory
    plain = replace(preprocessing, layout="NCHW")
    before = [plain.undone(image.permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy() for image in pixels]
    if not all(_unit(image, ROUNDED) for image in before):
        return memory
    note = (
        "warning: the images had been prepared for the network already: its preprocessing "
        f"({preprocessing}) was taken back, so that it is done once"
    )
    return replace(memory, pixels=[image.clip(0, 1) for image in before], notes=(*memory.notes, note))


def _unit(image: Array, slack: float = 0.0) -> bool:
    return bool(image.min() >= -slack and image.max() <= 1 + slack)
