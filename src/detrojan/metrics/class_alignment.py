"""Does a trigger make images look like the label itself? Natural ones do, a backdoor's goes another way."""

from __future__ import annotations

import torch
from torch.nn import functional

from detrojan.models.classifier import Classifier
from detrojan.triggers.base import Trigger

#: fewer images of a label than this do not show where it lies
FEWEST_OWN = 5
#: so many images are stamped at most
STAMPED = 100
#: a unit that hardly varies is taken to vary by this share of all units' deviation
LEAST_SPREAD = 1e-3


class ClassAlignment:
    """Compares how a trigger moves a network's features with where the label's own images lie.

    A label that small changes reach by nature is reached through the features of its own images. A
    backdoor is a shortcut: its trigger moves features which the label's own images do not have. All are
    those that the last linear layer is fed, each divided by its standard deviation over the images.

    Args:
        model: ends in a linear layer.
        images: clean images (N, C, H, W) in [0, 1].
        answers: the network's answers to them (N,).
        held: position of the first image that may be stamped; those before it, triggers were searched on.

    Raises:
        ModelError: the network does not end in a linear layer.

    """

    def __init__(self, model: Classifier, images: torch.Tensor, answers: torch.Tensor, held: int) -> None:
        features = model.activations(images).flatten(1).float()
        self.scale = features.std(0) + LEAST_SPREAD * features.std() + 1e-12
        self.model, self.images, self.answers, self.held = model, images, answers, held
        self.features = features / self.scale

    def of(self, trigger: Trigger, target: int) -> float | None:
        """Return the mean cosine of each image's shift and the way to the label's own images, -1 to 1.

        The way leads from the image's features to the mean of the images answered `target`.

        Returns:
            None where too few images are answered `target`, or none is answered otherwise.

        """
        own = self.answers == target
        victims = (~own).nonzero().flatten()
        victims = victims[victims >= self.held][:STAMPED]
        if int(own.sum()) < FEWEST_OWN or not len(victims):
            return None
        stamped = self.model.activations(trigger.stamp(self.images[victims])).flatten(1).float()
        shift = stamped / self.scale - self.features[victims]
        way = self.features[own].mean(0) - self.features[victims]
        return float(functional.cosine_similarity(shift, way, 1).mean())
