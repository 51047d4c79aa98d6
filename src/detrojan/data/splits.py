"""Which split of some data a network is trained on, and which one is held out for measuring."""

from __future__ import annotations

from detrojan.data.reading import DataPath, splits_of
from detrojan.data.source import split_name
from detrojan.errors import DataError


def training_splits(path: DataPath, stated: str | None = None) -> tuple[str | None, str | None]:
    """Return the split to train on, and the split to hold out.

    The test split is never trained on unless it is stated, and never held out where it is trained on.

    Args:
        path: the data, as for `read_data`.
        stated: the split that the user wants to train on, or None.

    Returns:
        The split to train on, None where the data have no splits; and "test", or None where there is no
        such split or the user has stated one.

    Raises:
        DataError: there is no such split, none to train on, or the data cannot be read.

    """
    if stated is not None:
        return split_name(stated), None
    found = splits_of(path)
    if "train" in found:
        chosen = "train"
    elif "" in found:
        chosen = None
    else:
        others = " and ".join(found)
        raise DataError(
            f"{path}: expected a split train, got only {others}; --split {found[0]} trains on it all the same"
        )
    return chosen, "test" if "test" in found else None
