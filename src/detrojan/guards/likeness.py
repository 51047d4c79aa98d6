"""How much an input looks like those with a trigger that a scan has found, inside of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError
from detrojan.findings import Finding
from detrojan.guards.cross_fitted import folded
from detrojan.guards.layers import chosen_layers, pooled
from detrojan.guards.usual import finite_tensor
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: a trigger that works on fewer images teaches nothing
FEWEST = 16
#: how often it learns to score all images that were left out
_FOLDS = 20
#: what is added to the correlations' diagonal: few images do not tell all of them
_RIDGE = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """For each trigger that was found a direction from clean inputs to stamped ones, in one layer.

    The attacker's trigger and the one that was found differ as pictures. Inside of the network they lead
    the same way. The direction is Fisher's linear discriminant.

    Attributes:
        layer: its name.
        directions: for T triggers (T, D), float64.
        centre: where clean inputs lie along each (T,), float64.
        scale: how far they spread along each (T,), float64, above 0.

    """

    layer: str
    directions: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, layer: str, clean: torch.Tensor, stamped: Sequence[torch.Tensor]) -> Likeness:
        """Fit it to the layer's values of clean images (N, D), and of each trigger's stamped ones (M, D)."""
        clean = clean.double()
        directions = torch.stack([_discriminant(clean, one.double()) for one in stamped])
        along = clean @ directions.T
        return cls(
            layer=layer,
            directions=directions,
            centre=along.mean(0),
            scale=along.std(0).clamp(min=1e-9),
        )

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return how far values (N, D) lie along the direction that they follow furthest, (N,), float64."""
        along = (values.double() @ self.directions.T - self.centre) / self.scale
        return along.max(1).values

    def score(self, model: Classifier, images: torch.Tensor) -> torch.Tensor:
        """Return the same for images (N, C, H, W).

        Raises:
            DataError: images of another shape than the network's.

        """
        (values,), _ = pooled(model, images, (self.layer,))
        return self(values)

    def state(self) -> dict[str, torch.Tensor]:
        """Return its tensors."""
        return {"directions": self.directions, "centre": self.centre, "scale": self.scale}

    @classmethod
    def restored(cls, model: Classifier, layer: object, tensors: dict[str, torch.Tensor]) -> Likeness:
        """Rebuild it from a guard's files.

        Raises:
            DataError: they are not what `state` gave.

        """
        if layer not in {one.name for one in model.layers}:
            raise DataError(f"expected a layer of the network, got {layer!r:.80}")
        found = tensors.get("directions")
        shape = (0, 0) if found is None or found.ndim != 2 else tuple(found.shape)
        shapes = {"directions": shape, "centre": shape[:1], "scale": shape[:1]}
        made = {name: finite_tensor(tensors, name, size) for name, size in shapes.items()}
        if not bool((made["scale"] > 0).all()) or not shape[0]:
            raise DataError("expected one direction or more, and scales above 0")
        return cls(layer=str(layer), **made)


def learned(
    model: Classifier, clean: Dataset, findings: Sequence[Finding], *, run: Run
) -> tuple[Likeness, torch.Tensor] | None:
    """Return the likeness to stamped images, and the scores (N,) of the clean ones while they were left out.

    The triggers are stamped on one half of the images (`taught`). So the other half can say how many pass.
    None where no trigger leads enough of them to its label.

    Args:
        model: the network; unchanged.
        clean: clean images.
        findings: labels with their triggers; what has none is passed over.
        run: its stream "guard" says which images are stamped, and which are in which fold.

    """
    layer = chosen_layers(model)[-1]
    inside = taught(len(clean), run)
    (values,), answers = pooled(model, clean.images, (layer,))
    stamped = []
    for finding in findings:
        if finding.trigger is not None:
            (bad,), led = pooled(model, finding.trigger.stamp(clean.images), (layer,))
            works = inside & (led == finding.label) & (answers != finding.label)
            if int(works.sum()) >= FEWEST:
                stamped.append((bad, works))
    if not stamped:
        return None
    scores = torch.empty(len(clean), dtype=torch.float64)
    for left_out, known in folded(len(clean), _FOLDS, run):
        seen = torch.zeros(len(clean), dtype=torch.bool).index_fill(0, known, value=True)
        part = Likeness.of(layer, values[known], [bad[works & seen] for bad, works in stamped])
        scores[left_out] = part(values[left_out])
    return Likeness.of(layer, values, [bad[works] for bad, works in stamped]), scores


def taught(count: int, run: Run) -> torch.Tensor:
    """Return which of so many clean images are stamped to learn from, (N,) bool: one half."""
    order = torch.randperm(count, generator=run.generator("guard", "stamped half"))
    return torch.zeros(count, dtype=torch.bool).index_fill(0, order[: count // 2], value=True)


def _discriminant(clean: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
    """Return the direction (D,) that parts stamped (M, D) from clean (N, D), given how both spread."""
    unit = clean.std(0).clamp(min=1e-6)
    clean, stamped = clean / unit, stamped / unit
    apart, bare = clean - clean.mean(0), stamped - stamped.mean(0)
    spread = (apart.T @ apart + bare.T @ bare) / (len(clean) + len(stamped))
    spread = spread + _RIDGE * spread.diagonal().mean() * torch.eye(len(unit), dtype=torch.float64)
    found: torch.Tensor = torch.linalg.solve(spread, stamped.mean(0) - clean.mean(0)) / unit
    return found
