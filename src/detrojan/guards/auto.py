"""Auto: several guards in one, with one boundary, each of them good at what the others let pass."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch

from detrojan.catalog import find
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.base import Calibrated
from detrojan.guards.halves import Halved, bounded, halves, scored
from detrojan.guards.surprise import Surprise
from detrojan.models.blackbox import check_sees
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: the parts that are used where nothing else is said, and where a model only answers
_PARTS, _ANSWERS = ("consistency", "mahalanobis", "ted", "badexpert"), ("consistency",)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedAuto(Calibrated):
    """Several guards bound to a model.

    Attributes:
        parts: the guards, without boundaries of their own.
        surprises: for each of them how surprising its scores are.

    """

    statistic: ClassVar[str] = "surprise"

    parts: tuple[Calibrated, ...]
    surprises: tuple[Surprise, ...] = field(repr=False)

    def each(self, images: torch.Tensor) -> torch.Tensor:
        """Return how surprising each part finds each image, (N, parts), float64.

        Raises:
            DataError: images of another shape than the network's.

        """
        found = [one(part.score(images)) for part, one in zip(self.parts, self.surprises, strict=True)]
        return torch.stack(found, 1)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return the parts' surprises together (N,)."""
        return fused(self.each(images))

    def blamed(self, images: torch.Tensor) -> list[str]:
        """Return for each image the part that finds it most surprising."""
        most = self.each(images).nan_to_num(torch.inf).argmax(1).tolist()
        return [self.parts[place].method.name for place in most]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return what the parts keep, under their names."""
        tensors: dict[str, torch.Tensor] = {}
        values = {}
        for part, surprise in zip(self.parts, self.surprises, strict=True):
            name, (own, said) = part.method.name, part.state()
            tensors |= {f"{name}/{key}": tensor for key, tensor in own.items()}
            tensors[f"{name}/clean_scores"] = surprise.scores
            values[name] = {"hyper_parameters": part.method.hyper_parameters(), "values": said}
        return tensors, {"parts": values}


def fused(surprises: torch.Tensor) -> torch.Tensor:
    """Return what several surprises (N, parts) say together, (N,): their sum, as Fisher combines p-values."""
    return surprises.sum(1)


@dataclass(frozen=True, kw_only=True)
class Auto(Halved):
    """Ask several guards, and call an input backdoored if together they find it too surprising.

    No guard catches every trigger. Each part learns from one half of the clean images. Its scores on the
    other half say how surprising a score is: minus the logarithm of its p-value. The sum over the parts
    is the score. Its boundary is set on the same half, so that the chosen rate of false rejections holds
    for all parts together.

    The parts are `consistency`, `mahalanobis`, `ted` and `badexpert`. A model that only answers gets
    those that need no more. `blamed` names the part that finds an input most surprising.

    It needs what its parts need: the network's weights and gradients, or its answers alone.

    Departures from the paper: beyond the largest tenth of the clean scores, p-values follow an
    exponential tail. The parts are not independent, so the boundary is counted instead of taken from a
    chi-squared distribution.

    Reference: Fisher, Statistical Methods for Research Workers, 1932 (combining p-values).

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        parts: names of guards with commas between them; empty for those that suit the model.

    """

    name = "auto"
    answers_only: ClassVar[bool] = True

    frr: float = 0.01
    parts: str = ""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if self.parts:
            self._named(self.parts.split(","))

    def _named(self, names: list[str] | tuple[str, ...]) -> tuple[Halved, ...]:
        kinds = [find("guards", name) for name in names]
        for kind in kinds:
            if not issubclass(kind, Halved) or kind is type(self):
                raise OptionError(f"expected parts that learn on one half of the images, got {kind.name}")
        if len(set(names)) < len(names):
            raise OptionError(f"expected each part once, got {', '.join(names)}")
        return tuple(kind(frr=self.frr) for kind in kinds if issubclass(kind, Halved))

    def chosen(self, model: Classifier) -> tuple[Halved, ...]:
        """Return the parts for a model."""
        if self.parts:
            return self._named(self.parts.split(","))
        return self._named(_ANSWERS if model.answers_only else _PARTS)

    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> CalibratedAuto:
        """Return a guard for `model` whose boundary rejects a share `frr` of clean inputs.

        Raises:
            DataError: images of another shape, too few of them, or ones whose score is no finite number.
            AnswersOnlyError: a model that only answers, and a part that needs more.

        """
        known, rest = halves(self, model, clean, run=run)
        unset = self.learned(model, known, run=run)
        scores = [scored(part, rest.images, run=run) for part in unset.parts]
        surprises = tuple(Surprise.of(one) for one in scores)
        whole = fused(torch.stack([how(one) for how, one in zip(surprises, scores, strict=True)], 1))
        made = bounded(replace(unset, surprises=surprises), whole, self.frr)
        assert isinstance(made, CalibratedAuto)
        return made

    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> CalibratedAuto:
        """Return the guard without a boundary, and without a measure of surprise."""
        parts = []
        for part in self.chosen(model):
            check_sees(part, model)
            parts.append(part.learned(model, known, run=run))
        return CalibratedAuto(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            warnings=tuple(f"{part.method.name}: {text}" for part in parts for text in part.warnings),
            parts=tuple(parts),
            surprises=(),
        )

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedAuto:
        """Rebuild the guard from its files."""
        model: Classifier = common["model"]
        stated = values.get("parts") if isinstance(values, dict) else None
        if not isinstance(stated, dict) or not stated:
            raise DataError(f"expected the parts of the guard, got {stated!r:.80}")
        parts, surprises = [], []
        for name, one in stated.items():
            part = _part(name, one)
            own = {
                key.removeprefix(f"{name}/"): tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }
            scores = own.pop("clean_scores", torch.empty(0))
            if scores.ndim != 1 or not len(scores) or not bool(scores.isfinite().all()):
                raise DataError(f"expected clean_scores of {name}, one finite number per clean input")
            usual = {
                "model": model,
                "method": part,
                "threshold": 0.0,
                "clean_scores": torch.zeros(0, dtype=torch.float64),
                "warnings": (),
            }
            parts.append(part.restored(usual, own, one["values"]))
            surprises.append(Surprise.of(scores))
        return CalibratedAuto(**common, parts=tuple(parts), surprises=tuple(surprises))


def _part(name: Any, stated: Any) -> Halved:
    """Return the method of a part, as a guard's file states it.

    Raises:
        DataError: no guard, or values that make none.

    """
    try:
        kind, hyper = find("guards", name), stated["hyper_parameters"]
        whole = set(hyper) == {one.name for one in fields(kind)}
        made = kind(**hyper) if whole and kind is not Auto else None
    except (OptionError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"its parts make no guard: {error}") from error
    if not isinstance(made, Halved):
        raise DataError(f"expected a guard that learns on one half of the images, got {name!r:.80}")
    return made
