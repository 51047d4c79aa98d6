"""Do the labels of the data mean anything to the network? Asked here, and nowhere else."""

from __future__ import annotations

import math

from detrojan.data.dataset import Dataset
from detrojan.metrics.input_range import RangeCheck, check_input_range
from detrojan.models.classifier import Classifier


def foreign(model: Classifier, data: Dataset) -> bool:
    """Return whether the data have labels that cannot be the network's: one lies beyond its classes."""
    return data.labels is not None and int(data.labels.max()) >= model.num_classes


def meaningful(model: Classifier, data: Dataset, *, most: float = math.inf) -> tuple[Dataset, RangeCheck]:
    """Return the data, without labels that mean nothing to the network, and the check of its input range.

    Labels of another task may lie within the network's classes by chance. Its answers to some of the images
    tell whether they mean something: it meets them more often than chance would.

    Args:
        model: the network with its stated preprocessing.
        data: clean images, labelled or not.
        most: images that all ways of feeding together may be tried with.

    """
    if foreign(model, data):
        data = data.with_labels(None)
    check = check_input_range(model, data, most=most)
    return (data if check.labels_fit else data.with_labels(None)), check
