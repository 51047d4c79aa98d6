"""Consistency: change an input in harmless ways; a trigger survives and breaks other than what it covers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch.nn import functional

from detrojan.guards.reading import CalibratedReader, Reader, Readings
from detrojan.guards.usual import Usual, finite_tensor, odds
from detrojan.models.classifier import Classifier
from detrojan.run import Run


def _blurred(images: torch.Tensor, width: float) -> torch.Tensor:
    """Return images behind a Gaussian blur of so many pixels."""
    ticks = torch.arange(-3, 4, device=images.device) / width
    line = (-ticks.square() / 2).exp()
    kernel = (line[:, None] * line / line.sum().square()).expand(images.shape[1], 1, 7, 7)
    padded = functional.pad(images, (3, 3, 3, 3), mode="replicate")
    return functional.conv2d(padded, kernel.contiguous(), groups=images.shape[1])


def _turned(images: torch.Tensor, degrees: float, scale: float) -> torch.Tensor:
    """Return images turned about their centre, and larger by `scale`."""
    angle, (high, wide) = math.radians(degrees), images.shape[2:]
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    rows = images.new_tensor([[cosine, -sine * high / wide, 0], [sine * wide / high, cosine, 0]])
    grid = functional.affine_grid(rows.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="border")


def _coarse(images: torch.Tensor) -> torch.Tensor:
    """Return images of half the resolution."""
    size = images.shape[2:]
    half = functional.interpolate(images, size=[max(1, side // 2) for side in size], mode="area")
    return functional.interpolate(half, size=size, mode="bilinear", align_corners=False)


def _moved(images: torch.Tensor, share: float) -> torch.Tensor:
    """Return images moved down and right by a share of their height, the border repeated."""
    by = max(1, round(abs(share) * images.shape[2]))
    before, after = (by, 0) if share > 0 else (0, by)
    padded = functional.pad(images, (before, after, before, after), mode="replicate")
    return padded[:, :, after : after + images.shape[2], after : after + images.shape[3]]


def _twice(images: torch.Tensor, *, left: bool) -> torch.Tensor:
    """Return images made of one half and its mirror image."""
    wide = images.shape[3]
    kept = images if left else images.flip(3)
    half = kept[..., : (wide + 1) // 2]
    made = torch.cat([half, half.flip(3)[..., wide % 2 :]], 3)
    return made if left else made.flip(3)


def _hidden(images: torch.Tensor, *, left: bool) -> torch.Tensor:
    """Return images with one half of their mean colour."""
    half = images.shape[3] // 2
    first = torch.arange(images.shape[3], device=images.device) < half
    return images.mean((2, 3), keepdim=True).where(first == left, images)


#: what is done to the images (N, C, H, W), given noise (C, H, W) with a deviation of 1
CHANGES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "slight blur": lambda images, _noise: _blurred(images, 0.6),
    "blur": lambda images, _noise: _blurred(images, 1.0),
    "half resolution": lambda images, _noise: _coarse(images),
    "slight noise": lambda images, noise: images + 0.03 * noise,
    "noise": lambda images, noise: images + 0.06 * noise,
    "mirrored": lambda images, _noise: images.flip(3),
    "turned": lambda images, _noise: _turned(images, 15, 1.0),
    "turned and larger": lambda images, _noise: _turned(images, -10, 1.2),
    "less contrast": lambda images, _noise: 0.6 * images + 0.2,
    "darker": lambda images, _noise: 0.6 * images,
    "brighter": lambda images, _noise: 1.5 * images,
    "less colour": lambda images, _noise: torch.lerp(images, images.mean(1, keepdim=True), 0.7),
    "moved": lambda images, _noise: _moved(images, 0.1),
    "moved back": lambda images, _noise: _moved(images, -0.1),
    "fewer levels": lambda images, _noise: (7 * images).round() / 7,
    "sharper": lambda images, _noise: 2 * images - _blurred(images, 1.0),
    "left half twice": lambda images, _noise: _twice(images, left=True),
    "right half twice": lambda images, _noise: _twice(images, left=False),
    "left half hidden": lambda images, _noise: _hidden(images, left=True),
    "right half hidden": lambda images, _noise: _hidden(images, left=False),
}
#: how many of them guards of older versions know
_OLDER = (16, 18)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedConsistency(CalibratedReader):
    """Consistency bound to a model.

    Attributes:
        noise: what is added to images, (C, H, W), float32.
        usual: how the odds of clean inputs' answers are spread, one number for each change and one for none.

    """

    statistic: ClassVar[str] = "inconsistency"

    noise: torch.Tensor = field(repr=False)
    usual: Usual = field(repr=False)

    def profile(self, images: torch.Tensor) -> torch.Tensor:
        """Return the log odds of the answer to each image, as it is and changed, (N, 1 + changes), float64.

        Raises:
            DataError: images of another shape than the network's.

        """
        plain = self.model.all_logits(images)
        labels, found = plain.argmax(1), [plain]
        known = list(CHANGES.values())[: len(self.usual.mean) - 1]
        found += [self.model.all_logits(change(images.cpu(), self.noise).clamp(0, 1)) for change in known]
        return torch.stack([odds(logits, labels) for logits in found], 1)

    def read(self, images: torch.Tensor) -> Readings:
        """Return the profile."""
        return (self.profile(images),)

    def judged(self, readings: Readings) -> torch.Tensor:
        """Return how unusual the odds are, (N,): about 1 for clean inputs."""
        return self.usual.distance(readings[0])

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the noise and the distribution."""
        return {"noise": self.noise, **self.usual.state("usual")}, {}


@dataclass(frozen=True, kw_only=True)
class Consistency(Reader[CalibratedConsistency]):
    """Change each input in harmless ways, and call it backdoored if its answer reacts as no clean one does.

    A trigger does not lose its effect as the things in a picture do: some survive a blur or a change of
    colours too well, others break at once. The guard asks about the input as it is and 20 changed copies:
    blurred, noisy, turned, moved, darker, with fewer colours, and so on. Four show one half alone, beside its
    mirror image or its mean colour: a trigger that joins parts of two images loses its effect there. The log
    odds of the first answer in each of them make a profile. Its distance from the profiles of clean inputs is
    the score.

    It needs answers alone, as scores or probabilities, and no labels. A pass costs 21 forwards.

    Departures from the paper: it asks for the answer's odds instead of the label alone, and once for each
    kind of change instead of for five strengths. What is usual is learned from clean inputs, as a normal
    distribution. The paper has none, and takes the deviation of the strength that changes the label.

    Reference: Liu et al., Detecting Backdoors During the Inference Stage Based on Corruption Robustness
    Consistency, CVPR 2023.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).

    """

    name = "consistency"
    answers_only: ClassVar[bool] = True
    lets_through: ClassVar[str] = (
        "A trigger that joins parts of two natural images, or that pieces of it set off, often gets past it."
    )

    frr: float = 0.01

    def blank(self, model: Classifier, *, run: Run) -> CalibratedConsistency:
        """Return the guard before it has learned what is usual."""
        return CalibratedConsistency(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            noise=torch.randn(model.input_shape, generator=run.generator("consistency", "noise")),
            usual=Usual.of(torch.zeros(2, 1 + len(CHANGES))),
        )

    def taught(self, blank: CalibratedConsistency, readings: Readings) -> CalibratedConsistency:
        """Return the guard without a boundary."""
        return replace(blank, usual=Usual.of(readings[0]))

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedConsistency:
        """Rebuild the guard from its files."""
        model: Classifier = common["model"]
        mean = tensors.get("usual.mean")
        size = 0 if mean is None or mean.ndim != 1 else len(mean)
        known = size - 1 if size - 1 in _OLDER else len(CHANGES)
        return CalibratedConsistency(
            **common,
            noise=finite_tensor(tensors, "noise", model.input_shape, torch.float32),
            usual=Usual.restored(tensors, "usual", 1 + known),
        )
