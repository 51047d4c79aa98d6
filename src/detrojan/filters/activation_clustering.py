"""Activation clustering: a poisoned class falls into two groups, of which one is small."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.filters.base import Filter, Suspects, each_class
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: passes of 2-means, and starts of which the best is taken
PASSES, STARTS = 100, 8
#: the silhouette compares all pairs of at most so many points
MOST = 3000


@dataclass(frozen=True, kw_only=True)
class ActivationClustering(Filter):
    """Split each class in two by its features; a small group that lies well apart is taken for poison.

    The features of a class are reduced to a few directions (principal components; the paper takes
    independent ones) and split by 2-means. A class is flagged where the smaller group has less than `size` of
    its samples and the silhouette score, how well the two are separated, is at least `silhouette`.

    Reference: Chen et al., Detecting Backdoor Attacks on Deep Neural Networks by Activation
    Clustering, SafeAI 2019.

    Args:
        layer: the layer whose output is looked at; empty for the penultimate features.
        components: directions that the features are reduced to; 1 or more.
        size: share of a class below which its smaller group is suspicious, in (0, 0.5].
        silhouette: least separation of the two groups, -1 to 1.

    """

    name = "activation_clustering"

    layer: str = ""
    components: int = 10
    size: float = 0.35
    silhouette: float = 0.15

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.components < 1:
            raise OptionError(f"expected components of 1 or more, got {self.components}")
        if not (0 < self.size <= 0.5 and -1 <= self.silhouette <= 1):
            raise OptionError(
                "expected a size in (0, 0.5] and a silhouette of -1 to 1, "
                f"got {self.size:g} and {self.silhouette:g}"
            )

    def limits(self, flagged: int) -> tuple[str, ...]:
        """Return what the answer cannot say: a group is found only as the smaller part of a class."""
        if flagged:
            return ()
        return (
            *super().limits(flagged),
            f"A group of {100 * self.size:.3g}% of its class or more is never flagged.",
        )

    def suspect(self, data: Dataset, *, model: Classifier, run: Run) -> Suspects:
        """Score every sample by its nearness to its class's smaller group, and flag suspicious groups.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.

        """
        features = self.features(model, data)
        scores = torch.zeros(len(data), dtype=torch.float64)
        flagged = torch.zeros(len(data), dtype=torch.bool)
        classes, warnings = {}, list[str]()
        for label, places in each_class(data, warnings):
            reduced = reduce(features[places], self.components)
            small, margin = two_means(reduced, run.generator("activation clustering", label))
            apart = silhouette(reduced, small)
            share = float(small.double().mean())
            bad = share < self.size and apart >= self.silhouette
            scores[places] = margin * max(0.0, apart)
            flagged[places] = small & bad
            classes[label] = {
                "samples": len(places),
                "smaller group": share,
                "silhouette": apart,
                "flagged": int(small.sum()) if bad else 0,
            }
        return Suspects(scores=scores, flagged=flagged, classes=classes, warnings=tuple(warnings))


def reduce(features: torch.Tensor, components: int) -> torch.Tensor:
    """Return the first principal components of features (N, D), in units of the first one's spread."""
    centred = features - features.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    kept = min(components, int((s > s[0] * 1e-9).sum()) or 1)
    spread = s[0] / len(features) ** 0.5
    reduced: torch.Tensor = u[:, :kept] * s[:kept] / (spread if float(spread) > 0 else 1.0)
    return reduced


def two_means(points: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Split points (N, D) in two by 2-means.

    Returns:
        Which points are of the smaller group, (N,) bool, and how much nearer each is to its centre
        than to the other's, (N,).

    """
    best: tuple[float, torch.Tensor] | None = None
    for _ in range(STARTS):
        centres = _started(points, generator)
        for _ in range(PASSES):
            nearest = torch.cdist(points, centres).argmin(1)
            moved = torch.stack(
                [points[nearest == k].mean(0) if bool((nearest == k).any()) else centres[k] for k in (0, 1)]
            )
            if torch.equal(moved, centres):
                break
            centres = moved
        inertia = float(torch.cdist(points, centres).amin(1).square().sum())
        if best is None or inertia < best[0] - 1e-12:
            best = (inertia, centres)
    assert best is not None
    far = torch.cdist(points, best[1])
    second = far.argmin(1) == 1
    small = second if int(second.sum()) * 2 <= len(points) else ~second
    margin = far[:, 0] - far[:, 1]
    return small, margin if small is second else -margin


def _started(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return two first centres: a point drawn at random, and one drawn far from it (k-means++)."""
    first = points[int(torch.randint(len(points), (), generator=generator))]
    weight = (points - first).square().sum(1)
    if float(weight.sum()) <= 0:
        return torch.stack([first, first])
    return torch.stack([first, points[int(torch.multinomial(weight, 1, generator=generator))]])


def silhouette(points: torch.Tensor, small: torch.Tensor) -> float:
    """Return the mean silhouette of two groups of points (N, D), -1 to 1; 0 where one has no points.

    Of many points every few are taken: all pairs are compared.
    """
    step = -(-len(points) // MOST)
    points, small = points[::step], small[::step]
    if not 0 < int(small.sum()) < len(points):
        return 0.0
    apart = torch.cdist(points, points)
    own = small[:, None] == small[None]
    sizes = own.sum(1)
    inside = (apart * own).sum(1) / (sizes - 1).clamp(min=1)
    outside = (apart * ~own).sum(1) / (len(points) - sizes)
    value = (outside - inside) / torch.maximum(inside, outside).clamp(min=1e-12)
    return float(torch.where(sizes > 1, value, 0.0).mean())
