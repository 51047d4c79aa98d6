"""The embedded traffic signs, by the word `signs`; `signs:train` names one of their splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detrojan.data.drawn.signs import SPLITS, signs
from detrojan.data.formats.base import Format, Place
from detrojan.data.source import Fetched, Source, split_name
from detrojan.errors import OptionError


class DrawnSigns(Format):
    """Traffic signs that are drawn on the spot: no file is needed."""

    kind = "the word signs (signs:train, signs:test)"
    listed = (
        ("signs", "embedded: drawn traffic signs, 32x32, 18 classes; signs:train, signs:test, signs:val"),
    )
    words = ("signs",)

    def recognises(self, place: Place) -> bool:
        """Tell whether the text begins with the word."""
        return place.word in self.words

    def splits(self, place: Place) -> tuple[str, ...]:
        """Return the split that the text states, or all of them."""
        stated = place.text.partition(":")[2]
        return (split_name(stated),) if stated else tuple(SPLITS)

    def read(self, place: Place, split: str | None, *, unlabelled: bool) -> Source:
        """Draw the signs of a split.

        Raises:
            DataError: another split.
            OptionError: one that contradicts the text.

        """
        stated = place.text.partition(":")[2]
        if stated and split is not None and split_name(stated) != split_name(split):
            raise OptionError(f"expected one split, got {place.text} and {split}")
        data = signs(split_name(stated or split or "test"))
        assert data.labels is not None
        images = data.images.permute(0, 2, 3, 1).numpy()

        def fetch(index: NDArray[np.int64]) -> Fetched:
            return images[index], []

        return Source(
            where=data.source,
            count=len(data),
            fetch=fetch,
            labels=None if unlabelled else data.labels.numpy(),
            class_names=data.class_names,
            notes=data.notes,
            sha256=data.sha256,
        )
