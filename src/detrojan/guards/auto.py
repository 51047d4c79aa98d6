"""Auto: several guards in one, with one boundary, each of them good at what the others let pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from detrojan.catalog import find
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, ModelError, OptionError
from detrojan.findings import Finding
from detrojan.guards.base import Calibrated, Guard, is_finite
from detrojan.guards.cross_fitted import CrossFitted, bounded, check_clean, check_frr
from detrojan.guards.likeness import Likeness, learned
from detrojan.guards.surprise import Surprise
from detrojan.guards.usual import finite_tensor
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: the parts that are used where nothing else is said, and where a model only answers
_PARTS, _ANSWERS = ("consistency", "mahalanobis", "ted"), ("consistency",)

#: how much a part's surprise counts; the others' counts once
_WEIGHTS = {"consistency": 2.0}

#: what is blamed where an input looks like those with a trigger that a scan has found
FOUND = "found trigger"
#: clean images that are kept to explain inputs with
_KEPT = 50


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedAuto(Calibrated):
    """Several guards bound to a model.

    Attributes:
        parts: the guards, without boundaries of their own.
        surprises: for each of them how surprising its scores are.
        weights: for each of them how much that counts.
        others: some clean images that inputs are explained with, (M, C, H, W) in [0, 1]; none in guards of
            older versions.
        found: the likeness to inputs with triggers that a scan has found, and how surprising it is; None
            where no trigger was found.

    """

    statistic: ClassVar[str] = "surprise"

    parts: tuple[Calibrated, ...]
    surprises: tuple[Surprise, ...] = field(repr=False)
    weights: tuple[float, ...]
    others: torch.Tensor = field(repr=False)
    found: tuple[Likeness, Surprise] | None = field(default=None, repr=False)

    def clean_images(self) -> torch.Tensor:
        """Return the clean images that inputs are explained with."""
        return self.others

    def each(self, images: torch.Tensor) -> torch.Tensor:
        """Return how surprising each part finds each image, (N, parts), float64; the found triggers last.

        Raises:
            DataError: images of another shape than the network's.

        """
        found = [one(part.score(images)) for part, one in zip(self.parts, self.surprises, strict=True)]
        if self.found is not None:
            likeness, surprise = self.found
            found.append(surprise(likeness.score(self.model, images)))
        return torch.stack(found, 1)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return the parts' surprises together (N,)."""
        return fused(self.each(images), self.weights)

    def blamed(self, images: torch.Tensor) -> list[str]:
        """Return for each image the part that finds it most surprising."""
        names = [*(part.method.name for part in self.parts), FOUND]
        return [names[place] for place in self.each(images).nan_to_num(torch.inf).argmax(1).tolist()]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return what the parts keep, under their names."""
        tensors: dict[str, torch.Tensor] = {"others": self.others}
        values = {}
        for part, surprise, weight in zip(self.parts, self.surprises, self.weights, strict=True):
            name, (own, said) = part.method.name, part.state()
            tensors |= {f"{name}/{key}": tensor for key, tensor in own.items()}
            tensors[f"{name}/clean_scores"] = surprise.scores
            stated = part.method.hyper_parameters()
            values[name] = {"hyper_parameters": stated, "values": said, "weight": weight}
        if self.found is None:
            return tensors, {"parts": values}
        likeness, surprise = self.found
        tensors |= {f"{FOUND}/{key}": tensor for key, tensor in likeness.state().items()}
        tensors[f"{FOUND}/clean_scores"] = surprise.scores
        return tensors, {"parts": values, FOUND: likeness.layer}


def fused(surprises: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Return what several surprises (N, parts) say together, (N,): their weighted sum.

    Args:
        surprises: of each part; more than there are weights where found triggers are looked for.
        weights: of the parts; whatever follows them counts once.

    """
    more = [1.0] * (surprises.shape[1] - len(weights))
    return surprises @ surprises.new_tensor([*weights, *more])


@dataclass(frozen=True, kw_only=True)
class Auto(Guard):
    """Ask several guards, and call an input backdoored if together they find it too surprising.

    No guard catches every trigger. Each part scores every clean image while it has not learned from it.
    These scores say how surprising a score is: minus the logarithm of its p-value. The sum over the parts
    is the score, and `consistency` counts twice. Its boundary is set on the same images, so that the chosen
    rate of false rejections holds for all parts together.

    The parts are `consistency`, `mahalanobis` and `ted`: 23 forwards for each input. A model that only
    answers gets those that need no more. A part that the network does not suit is left out, and a warning
    says so. `blamed` names the part that finds an input most surprising.

    Triggers that a scan has found sharpen it (`--findings scan.json`). They are stamped on clean images. How
    much an input looks like these inside of the network counts as one more part, for one more forward.

    It needs what its parts need: the network's layers, or its answers alone.

    Departures from the paper: beyond the largest tenth of the clean scores, p-values follow an
    exponential tail. The parts are not independent, so the boundary follows the tail of their sums instead
    of a chi-squared distribution.

    Reference: Fisher, Statistical Methods for Research Workers, 1932 (combining p-values); Good, On the
    Weighted Combination of Significance Tests, Journal of the Royal Statistical Society B, 1955.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        parts: names of guards with commas between them; empty for those that suit the model.

    """

    name = "auto"
    answers_only: ClassVar[bool] = True
    lets_through: ClassVar[str] = "A trigger that joins parts of two natural images often gets past it."

    frr: float = 0.01
    parts: str = ""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_frr(self.frr)
        if self.parts:
            self._named(self.parts.split(","))

    def _named(self, names: list[str] | tuple[str, ...]) -> tuple[CrossFitted, ...]:
        kinds = [find("guards", name) for name in names]
        for kind in kinds:
            if not issubclass(kind, CrossFitted):
                raise OptionError(f"expected parts that learn from clean images, got {kind.name}")
        if len(set(names)) < len(names):
            raise OptionError(f"expected each part once, got {', '.join(names)}")
        return tuple(kind(frr=self.frr) for kind in kinds if issubclass(kind, CrossFitted))

    def chosen(self, model: Classifier) -> tuple[CrossFitted, ...]:
        """Return the parts for a model."""
        if self.parts:
            return self._named(self.parts.split(","))
        return self._named(_ANSWERS if model.answers_only else _PARTS)

    def calibrate(
        self, model: Classifier, clean: Dataset, *, run: Run, findings: Sequence[Finding] = ()
    ) -> CalibratedAuto:
        """Return a guard for `model` whose boundary rejects a share `frr` of clean inputs.

        Args:
            model: the network to guard; unchanged.
            clean: clean images; their labels may be missing.
            run: device, seed, progress, checkpoint.
            findings: what a scan has found, with triggers. The guard then also looks for what inputs with
                them have in common inside of the network.

        Raises:
            DataError: images of another shape, too few of them, or ones whose score is no finite number.
            ModelError: a network that a part which was asked for does not suit, or that suits none.

        """
        check_clean(self, model, clean)
        parts, scores, left_out = [], [], []
        for part in self.chosen(model):
            try:
                check_clean(part, model, clean)
                made, found = part.crossed(model, clean, run=run)
            except (DataError, ModelError) as error:
                if self.parts:
                    raise
                left_out.append(f"the part {part.name} is left out: {error}")
                continue
            parts.append(made)
            scores.append(found)
        if not parts:
            raise ModelError(f"expected a network that suits a part of the guard; {'; '.join(left_out)}")
        surprises = [Surprise.of(one) for one in scores]
        looked, said = self._found(model, clean, findings, run)
        if looked is not None:
            scores.append(looked[1])
            surprises.append(Surprise.of(looked[1]))
        told = (*left_out, *said, *(f"{one.method.name}: {text}" for one in parts for text in one.warnings))
        weights = tuple(_WEIGHTS.get(part.method.name, 1.0) for part in parts)
        unset = CalibratedAuto(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            warnings=told,
            parts=tuple(parts),
            surprises=tuple(surprises[: len(parts)]),
            weights=weights,
            others=clean.sample(min(_KEPT, len(clean)), run.generator("auto", "others")).images.clone(),
            found=None if looked is None else (looked[0], surprises[-1]),
        )
        each = torch.stack([how(one) for how, one in zip(surprises, scores, strict=True)], 1)
        whole = fused(each, weights)
        bound = bounded(unset, whole, self.frr)
        assert isinstance(bound, CalibratedAuto)
        return bound

    def _found(
        self, model: Classifier, clean: Dataset, findings: Sequence[Finding], run: Run
    ) -> tuple[tuple[Likeness, torch.Tensor] | None, list[str]]:
        """Return the likeness to inputs with the triggers, clean images' scores, and what must be known."""
        if not findings:
            return None, []
        if model.answers_only:
            return None, ["the triggers that were found are not looked for: the model only answers"]
        made = learned(model, clean, findings, run=run)
        if made is None:
            return None, ["the triggers that were found are not looked for: they work on too few images"]
        return made, []

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedAuto:
        """Rebuild the guard from its files."""
        model: Classifier = common["model"]
        stated = values.get("parts") if isinstance(values, dict) else None
        if not isinstance(stated, dict) or not stated:
            raise DataError(f"expected the parts of the guard, got {stated!r:.80}")
        parts, surprises, weights = [], [], []
        for name, one in stated.items():
            part = _part(name, one)
            own = _under(name, tensors)
            scores = _clean_scores(name, own)
            usual = {
                "model": model,
                "method": part,
                "threshold": 0.0,
                "clean_scores": torch.zeros(0, dtype=torch.float64),
                "warnings": (),
            }
            parts.append(part.restored(usual, own, one["values"]))
            surprises.append(Surprise.of(scores))
            weights.append(_weight(name, one))
        found = None
        if FOUND in values:
            own = _under(FOUND, tensors)
            scores = _clean_scores(FOUND, own)
            found = Likeness.restored(model, values[FOUND], own), Surprise.of(scores)
        others = tensors.get("others", torch.zeros(0, *model.input_shape))
        finite_tensor({"others": others}, "others", (len(others), *model.input_shape), torch.float32)
        return CalibratedAuto(
            **common,
            parts=tuple(parts),
            surprises=tuple(surprises),
            weights=tuple(weights),
            others=others,
            found=found,
        )


def _under(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors that stand under a name."""
    start = f"{name}/"
    return {key.removeprefix(start): one for key, one in tensors.items() if key.startswith(start)}


def _clean_scores(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Take a part's scores of clean inputs out of its tensors.

    Raises:
        DataError: there are none, or some that are no finite number.

    """
    scores = tensors.pop("clean_scores", torch.empty(0))
    if scores.ndim != 1 or not len(scores) or not bool(scores.isfinite().all()):
        raise DataError(f"expected clean_scores of {name}, one finite number per clean input")
    return scores


def _weight(name: str, stated: dict[str, Any]) -> float:
    """Return how much a part counts, as a guard's file states it; once in guards of older versions.

    Raises:
        DataError: no number above 0.

    """
    found = stated.get("weight", 1.0)
    if not is_finite(found) or not found > 0:
        raise DataError(f"expected a weight above 0 of {name}, got {found!r:.80}")
    return float(found)


def _part(name: Any, stated: Any) -> CrossFitted:
    """Return the method of a part, as a guard's file states it.

    Raises:
        DataError: no guard, or values that make none.

    """
    try:
        kind, hyper = find("guards", name), stated["hyper_parameters"]
        whole = set(hyper) == {one.name for one in fields(kind)}
        made = kind(**hyper) if whole else None
    except (OptionError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"its parts make no guard: {error}") from error
    if not isinstance(made, CrossFitted):
        raise DataError(f"expected a guard that learns from clean images, got {name!r:.80}")
    return made
