"""Images with or without labels, as arrays."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from detrojan.errors import DataError, LabelError, RangeError


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images in [0, 1] and, where they are known, their labels.

    Attributes:
        images: (N, C, H, W), float32, in [0, 1].
        labels: (N,), int64, 0-based; None where nobody knows them.
        class_names: a name per label, possibly empty.
        named: the labels were numbered after their names, as class folders are: a number means what
            `class_names` says, and nothing to a network that numbers the names otherwise.
        source: where the data came from, for people.
        sha256: digest of the file or folder, or empty.
        notes: how it was read (e.g. "uint8 / 255"), for the report.
        extra: per-sample arrays that travel with the samples (first dimension N), e.g. "track".
        skipped: what was left out, each with the reason.
        files: the file that each sample was read from, where each has its own; else empty.
        positions: where each sample stands in its source, (N,) int64; None where the source was read
            as a whole, in its order.
        total: how many samples the source has, where only some of them were drawn; else 0.

    Raises:
        DataError, RangeError, LabelError: on construction, when one of these does not hold.

    """

    images: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] = ()
    named: bool = False
    source: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    positions: torch.Tensor | None = None
    total: int = 0

    def __post_init__(self) -> None:
        """Check shape, type and range once, so that nobody else has to."""
        where = f"{self.source}: " if self.source else ""
        images = self.images
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise DataError(
                f"{where}expected images (N, C, H, W) with 1 or 3 channels, got shape {tuple(images.shape)}"
            )
        if len(images) == 0:
            raise DataError(f"{where}expected at least one image, got none")
        if images.dtype != torch.float32:
            raise DataError(f"{where}expected float32 images, got {images.dtype}")
        low, high = (float(value) for value in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise RangeError(f"{where}expected images in [0, 1], got {low:.4g} to {high:.4g}")
        if self.labels is not None:
            if self.labels.shape != (len(images),):
                raise LabelError(
                    f"{where}expected one label per image ({len(images)}), "
                    f"got shape {tuple(self.labels.shape)}"
                )
            if int(self.labels.min()) < 0:
                raise LabelError(f"{where}expected labels from 0, got {int(self.labels.min())}")
        for name, values in self._per_sample():
            if len(values) != len(images):
                raise DataError(f"{where}expected {len(images)} values of {name}, got {len(values)}")

    def _per_sample(self) -> list[tuple[str, Sized]]:
        """Return what there is of values per sample, beside images and labels, each with its name."""
        found: list[tuple[str, Sized]] = list(self.extra.items())
        found += [("files", self.files)] if self.files else []
        return found + ([] if self.positions is None else [("positions", self.positions)])

    def __repr__(self) -> str:
        """Say in one line what it holds; the arrays themselves are not shown."""
        size = " x ".join(str(side) for side in self.shape)
        of = f" of {self.total:,}" if self.total else ""
        labelled = "no labels" if self.labels is None else f"labels up to {int(self.labels.max())}"
        source = f", {self.source}" if self.source else ""
        return f"Dataset({len(self):,}{of} images {size}, {labelled}{source})"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes that are for people to see."""
        start = "warning: "
        return tuple(note.removeprefix(start) for note in self.notes if note.startswith(start))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def require_labels(self, purpose: str) -> torch.Tensor:
        """Return the labels, or say what they are needed for.

        Raises:
            LabelError: there are none.

        """
        if self.labels is None:
            raise LabelError(
                f"expected labelled data for {purpose}, got images without labels ({self.source})"
            )
        return self.labels

    def select(self, index: torch.Tensor | Sequence[int] | slice) -> Self:
        """Return the samples at `index` (positions or a boolean mask)."""
        key: Any = index if isinstance(index, torch.Tensor | slice) else torch.as_tensor(index)
        labels = None if self.labels is None else self.labels[key]
        extra = {name: values[key] for name, values in self.extra.items()}
        positions = None if self.positions is None else self.positions[key]
        files = self.files and tuple(self.files[at] for at in torch.arange(len(self))[key].tolist())
        return replace(
            self, images=self.images[key], labels=labels, extra=extra, files=files, positions=positions
        )

    def sample(self, count: int, generator: torch.Generator) -> Self:
        """Return `count` samples drawn without repeats; all of them, shuffled, if there are fewer."""
        return self.select(torch.randperm(len(self), generator=generator)[:count])

    def split(self, count: int, generator: torch.Generator) -> tuple[Self, Self]:
        """Return `count` randomly drawn samples, and the rest.

        Raises:
            DataError: unless 0 < count < N.

        """
        if not 0 < count < len(self):
            raise DataError(f"expected a part of 1 to {len(self) - 1} images, got {count}")
        order = torch.randperm(len(self), generator=generator)
        return self.select(order[:count]), self.select(order[count:])

    def with_labels(self, labels: torch.Tensor | None) -> Self:
        """Return the same images with other labels."""
        return replace(self, labels=labels)
