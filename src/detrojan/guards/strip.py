"""STRIP: blend the input with clean images; a trigger keeps the answer where it should change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.base import Calibrated, Guard
from detrojan.guards.boundary import NOTHING, Boundary, Fit, fitted, read_fit
from detrojan.models.classifier import BATCH, Classifier
from detrojan.run import Run

#: fewer clean inputs than this give no boundary
FEWEST = 8
#: inputs of one pass that an accelerator takes for each one of a processor's
ACCELERATED = 16


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedStrip(Calibrated):
    """STRIP bound to a model.

    Attributes:
        overlays: the clean images that every input is mixed with, (copies, C, H, W).
        fit: where the boundary came from.

    """

    statistic: ClassVar[str] = "entropy"
    sign: ClassVar[int] = -1

    overlays: torch.Tensor = field(repr=False)
    fit: Fit

    @property
    def boundary(self) -> float:
        """The entropy in bits at or below which an input is called backdoored."""
        return -self.threshold

    def clean_images(self) -> torch.Tensor:
        """Return the overlays."""
        return self.overlays

    def entropies(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean entropy of each image's copies in bits (N,), float64, 0 or more.

        Where half of the copies are mixed in another way, it is the lower of both halves' means. It is NaN
        where an answer to a copy is no finite number.

        Raises:
            DataError: images of another shape than the network's.

        """
        return _lower(self.halves(images), self.fit.scale)

    def halves(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean entropy in bits of the copies that are mixed alike, (N, 1 or 2), float64."""
        return self.halved(self.copy_entropies(images))

    def halved(self, entropies: torch.Tensor) -> torch.Tensor:
        """Return the mean of the copies (N, copies) that are mixed alike, (N, 1 or 2)."""
        return torch.stack([part.mean(1) for part in entropies.tensor_split(self.ways, 1)], 1)

    @property
    def ways(self) -> int:
        """In how many ways the copies of an input are mixed, 1 or 2."""
        assert isinstance(self.method, Strip)
        return self.method.ways(len(self.overlays))

    def copy_entropies(self, images: torch.Tensor) -> torch.Tensor:
        """Return the entropy of the answer to each copy of each image in bits, (N, copies), float64."""
        return self._asked(images, entropy)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return minus the entropy (N,): the less the copies' answers vary, the more suspicious."""
        return -self.entropies(images)

    def labels(self, images: torch.Tensor) -> torch.Tensor:
        """Return how the network answers each copy of each image, (N, copies), int64."""
        return self._asked(images, lambda logits: logits.argmax(2))

    def _asked(self, images: torch.Tensor, reduce: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Run all copies of a few images at a time; `reduce` is given (images, copies, classes)."""
        model: Classifier = self.model
        assert isinstance(self.method, Strip)
        model.check(images)
        overlays = self.overlays.to(model.device)
        batch = BATCH if model.device.type == "cpu" else BATCH * ACCELERATED
        each = max(1, batch // len(overlays))
        parts = []
        with model.judging(), torch.inference_mode():
            for start in range(0, len(images), each):
                some = images[start : start + each].to(model.device)
                logits = model.logits(self.method.mixed(some, overlays).flatten(0, 1))
                parts.append(reduce(logits.reshape(len(some), len(overlays), -1)))
        return torch.cat(parts).cpu()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the overlays and the fit."""
        return {"overlays": self.overlays}, {"fit": asdict(self.fit)}


@dataclass(frozen=True, kw_only=True)
class Strip(Guard):
    """Mix each input with clean images and call it backdoored if the answers hardly vary.

    The mean Shannon entropy of the answers to N superimposed copies is low where a trigger decides
    them all. The boundary is the FRR quantile of a normal curve fitted to clean inputs' entropies.
    Every input is mixed with the same N images, so that an answer can be repeated (the paper draws new
    ones). These images are not among those that the boundary is set on.

    Sums are not clipped, as in the authors' code, which adds floating-point images. Pixels reach 2, twice
    what the network knows. Cut off at 1, two bright images would leave white where the trigger was.

    Which mixing a trigger gets past depends on its colours. Sums drown a coloured patch among bright
    images, and a white one on a bright ground. Balanced sums keep the usual brightness, and twice the
    input's contrast. So half of the copies are mixed as in the paper, and half balanced. The lower entropy
    counts, each measured by the quantile that few clean inputs lie below.

    Reference: Gao et al., STRIP: A Defence Against Trojan Attacks on Deep Neural Networks,
    ACSAC 2019.

    Args:
        copies: N, how many clean images each input is mixed with (half of the clean images at
            most); 1 or more.
        mode: how they are mixed. Mode "add" sums the two, as in the paper. Mode "balance" adds up how they
            differ from the clean images' mean colour, with the input's contrast raised. Mode "both" does
            each with half of the copies. Mode "blend" keeps to the range that the network knows.
        contrast: what the input's difference is multiplied by where the two are balanced; above 0.
        weight: share of the clean image in a blend, in (0, 1).
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        boundary: "normal" as in the paper, "quantile" of the measured entropies, or "auto". That is the
            normal one, unless its fit is poor, since its tail holds too many or too few, or the entropies
            are skewed.

    """

    name = "strip"
    answers_only: ClassVar[bool] = True
    lets_through: ClassVar[str] = (
        "A trigger that differs from image to image, or that mixing images destroys, gets past it."
    )

    copies: int = 100
    mode: Literal["both", "add", "balance", "blend"] = "both"
    contrast: float = 2.0
    weight: float = 0.5
    frr: float = 0.01
    boundary: Boundary = "auto"

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.copies < 1:
            raise OptionError(f"expected copies of 1 or more, got {self.copies}")
        if self.mode not in {"both", "add", "balance", "blend"} or self.boundary not in {
            "auto",
            "normal",
            "quantile",
        }:
            raise OptionError(
                "expected the mode both, add, balance or blend and the boundary auto, normal or quantile, "
                f"got {self.mode!r} and {self.boundary!r}"
            )
        if not 0 < self.contrast < math.inf:
            raise OptionError(f"expected a contrast above 0, got {self.contrast:g}")
        if not (0 < self.weight < 1 and 0 < self.frr < 0.5):
            raise OptionError(
                f"expected weight in (0, 1) and frr in (0, 0.5), got {self.weight:g} and {self.frr:g}"
            )

    def ways(self, copies: int) -> int:
        """Return in how many ways so many copies of an input are mixed, 1 or 2."""
        return 2 if self.mode == "both" and copies > 1 else 1

    def mixed(self, images: torch.Tensor, overlays: torch.Tensor) -> torch.Tensor:
        """Return every image mixed with every overlay, (images, overlays, C, H, W), not clipped."""
        tops = self.tops(overlays)
        return torch.cat(
            [self.ground(images, overlays, way)[:, None] + top for way, top in enumerate(tops)], 1
        )

    def ground(self, images: torch.Tensor, overlays: torch.Tensor, way: int) -> torch.Tensor:
        """Return what of each image goes into its copies of one way of mixing, (images, C, H, W)."""
        if self.mode == "blend":
            return images * (1 - self.weight)
        if self.mode == "balance" or way:
            return torch.lerp(overlays.mean((0, 2, 3), keepdim=True), images, self.contrast)
        return images

    def tops(self, overlays: torch.Tensor) -> list[torch.Tensor]:
        """Return what is added to each image's ground, by the way of mixing, (overlays, C, H, W) each."""
        if self.mode == "blend":
            return [overlays * self.weight]
        usual = overlays.mean((0, 2, 3), keepdim=True)
        parts = overlays.tensor_split(self.ways(len(overlays)))
        return [part - usual if self.mode == "balance" or way else part for way, part in enumerate(parts)]

    def calibrate(self, model: Classifier, clean: Dataset, *, run: Run) -> CalibratedStrip:
        """Return a guard for `model` whose boundary rejects a share `frr` of clean inputs.

        Raises:
            DataError: images of another shape, too few of them, or ones whose entropy is no finite number.

        """
        model.check(clean.images)
        copies = min(self.copies, len(clean) // 2)
        if len(clean) - copies < FEWEST:
            raise DataError(f"expected {2 * FEWEST} or more clean images, got {len(clean)}")
        warnings = []
        if copies < self.copies:
            warnings.append(
                f"each input is mixed with {copies} clean images instead of {self.copies}: "
                f"{len(clean)} images were given"
            )
        overlays, rest = clean.split(copies, run.generator("strip", "overlays"))
        if len(rest) * self.frr < 1:
            warnings.append(
                f"expected {math.ceil(1 / self.frr)} or more clean images for a false rejection rate of "
                f"{self.frr:.2%}, got {len(rest)}: the boundary is a guess"
            )
        blank = Fit(mean=0, std=0, normal=0, quantile=0, used="", rejected=0, distance=0, complaint="")
        nothing = torch.zeros(0)
        unset = CalibratedStrip(
            model=model,
            method=self,
            threshold=0,
            clean_scores=nothing,
            overlays=overlays.images.clone(),
            fit=blank,
        )
        entropies = []
        with run.progress.task(self.name, len(rest)) as task:
            for start in range(0, len(rest), 64):
                part = rest.images[start : start + 64]
                entropies.append(unset.copy_entropies(part))
                task.advance(len(part))
        return self.bounded(unset, torch.cat(entropies), warnings)

    def bounded(
        self, unset: CalibratedStrip, entropies: torch.Tensor, warnings: list[str]
    ) -> CalibratedStrip:
        """Return the guard with its boundary.

        Args:
            unset: the guard without one.
            entropies: of the copies of clean inputs (N, copies), in bits.
            warnings: what the owner must know so far.

        """
        halves = unset.halved(entropies)
        _check_finite(halves)
        lows = halves.quantile(self.frr, 0).clamp(min=NOTHING)
        scale = float(lows[0] / lows[-1])
        measured = _lower(halves, scale)
        fit = replace(fitted(measured, self.frr, self.boundary), scale=scale)
        if fit.complaint:
            boundary = "used nevertheless" if fit.used == "normal" else "the empirical quantile is used"
            warnings = [*warnings, f"the normal fit of clean entropies is poor: {fit.complaint}; {boundary}"]
        return replace(
            unset,
            threshold=-(fit.normal if fit.used == "normal" else fit.quantile),
            clean_scores=-measured,
            warnings=tuple(warnings),
            fit=fit,
        )

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedStrip:
        """Rebuild the guard from its files."""
        overlays, fit = tensors.get("overlays"), values.get("fit")
        model: Classifier = common["model"]
        if overlays is None or overlays.ndim != 4 or tuple(overlays.shape[1:]) != model.input_shape:
            got = "none" if overlays is None else f"shape {tuple(overlays.shape)}"
            raise DataError(f"expected overlays of shape (copies, {model.input_shape}), got {got}")
        if not len(overlays) or overlays.dtype != torch.float32:
            raise DataError(f"expected one or more float32 overlays, got {len(overlays)} {overlays.dtype}")
        low, high = map(float, overlays.aminmax())
        if not (low >= 0 and high <= 1):
            raise DataError(f"expected overlays in [0, 1], got {low:.4g} to {high:.4g}")
        return CalibratedStrip(**common, overlays=overlays, fit=read_fit(fit))


def _check_finite(entropies: torch.Tensor) -> None:
    """Refuse clean inputs' entropies (N, ways) that set no boundary."""
    bad = int((~entropies.isfinite().all(1)).sum())
    if bad:
        raise DataError(
            f"expected finite entropies of the clean images, got {bad} of {len(entropies)} that are no "
            "finite number: the network's answers to mixed images overflow, no boundary can be set for it"
        )


def _lower(halves: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the lower entropy (N,) of the ways of mixing (N, 1 or 2), the second one times `scale`."""
    return torch.minimum(halves[:, 0], scale * halves[:, -1]) if halves.shape[1] > 1 else halves[:, 0]


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the Shannon entropy in bits of each answer over the classes, the last dimension."""
    # float64: with a thousand classes the sum of tiny terms matters
    nats: torch.Tensor = torch.special.entr(logits.double().softmax(-1)).sum(-1)
    return nats / math.log(2)
