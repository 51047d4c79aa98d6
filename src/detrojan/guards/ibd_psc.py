"""IBD-PSC: make the last batch norms louder; a backdoored answer stays sure where others break."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, ModelError, OptionError
from detrojan.guards.base import Calibrated
from detrojan.guards.cross_fitted import CrossFitted, scored
from detrojan.guards.usual import MOST, odds
from detrojan.learning.fitting import batch_norms
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: the factor is raised so often, by its own size, where no depth is enough
_RAISES = 4


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedIbdPsc(Calibrated):
    """IBD-PSC bound to a model.

    Attributes:
        first: how many of the last layers are amplified in the first of the networks; one more in each other.
        factor: what their outputs are multiplied by.
        amplified: the networks, none of which shares weights with the model.

    """

    statistic: ClassVar[str] = "steadiness"

    first: int
    factor: float
    amplified: tuple[Classifier, ...] = field(repr=False, compare=False)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean log odds of the model's answer in the amplified networks, (N,).

        Raises:
            DataError: images of another shape than the network's.

        """
        labels = self.model.answers(images)
        found = [odds(network.all_logits(images), labels, most=math.inf) for network in self.amplified]
        return _flattened(torch.stack(found)).mean(0)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return which layers are amplified, and how much; the networks are made again of the model."""
        return {}, {"first": self.first, "factor": self.factor, "networks": len(self.amplified)}


@dataclass(frozen=True, kw_only=True)
class IbdPsc(CrossFitted):
    """Amplify the last layers, and call an input backdoored if its answer stays sure.

    Scales and shifts of the last batch norms are multiplied by a factor. Clean inputs lose their answer
    in the amplified network, backdoored ones keep it. The score is the mean over several networks, in
    each of which one more layer is amplified. The first depth is the one at which clean images are
    answered wrongly often enough.

    Without batch norms the outputs of the last convolutions are multiplied, as their weights and biases
    are. It needs the network's layers. Labels decide the depth where there are some, otherwise the
    network's own answers. A pass costs one forward more than there are networks.

    Departures from the paper: the log odds are averaged instead of the probabilities, which saturate.
    Beyond 50 they grow as their logarithm only. The boundary is set on clean inputs instead of at 0.9.
    Where no depth is enough, the factor is raised.

    Reference: Hou et al., IBD-PSC: Input-level Backdoor Detection via Parameter-oriented Scaling
    Consistency, ICML 2024.

    Args:
        frr: false rejection rate that the boundary is set for, in (0, 0.5).
        factor: what is multiplied by, more than 1.
        networks: how many networks are asked; 1 or more.
        wrong: share of the clean images that the first network answers wrongly at least, in (0, 1).

    """

    name = "ibd_psc"
    lets_through: ClassVar[str] = (
        "A trigger that joins two images, is blended in, or changes the style, mostly gets past it."
    )

    frr: float = 0.01
    factor: float = 1.5
    networks: int = 5
    wrong: float = 0.6

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not 1 < self.factor < math.inf or self.networks < 1 or not 0 < self.wrong < 1:
            raise OptionError(
                "expected a factor above 1, networks of 1 or more and wrong in (0, 1), "
                f"got {self.factor:g}, {self.networks} and {self.wrong:g}"
            )

    def learned(self, model: Classifier, known: Dataset, *, run: Run) -> CalibratedIbdPsc:
        """Return the guard without a boundary."""
        del run  # nothing is drawn
        truth = model.answers(known.images) if known.labels is None else known.labels
        depths = len(_amplifiable(model.network))
        if not depths:
            raise ModelError("expected a network with batch norms or convolutions to amplify, got none")
        first, factor = depths, self.factor
        warnings: tuple[str, ...] = ()
        for _ in range(_RAISES):
            found = _first_depth(model, known.images, truth, factor, self.wrong)
            if found is not None:
                first = found
                break
            factor *= self.factor
        else:
            warnings = (
                (
                    f"no amplified network answers {self.wrong:.0%} of the clean images wrongly, with a "
                    f"factor of up to {factor:.3g}: this guard tells little here"
                ),
            )
        return CalibratedIbdPsc(
            model=model,
            method=self,
            threshold=0,
            clean_scores=torch.zeros(0, dtype=torch.float64),
            warnings=warnings,
            first=first,
            factor=factor,
            amplified=_family(model, first, factor, self.networks),
        )

    def crossed(self, model: Classifier, clean: Dataset, *, run: Run) -> tuple[Calibrated, torch.Tensor]:
        """Return the guard without a boundary, and the scores (N,) of all images.

        One depth is all that is learned, and no single image decides it. Another depth in each fold would
        give scores that do not compare.

        Raises:
            DataError: scores that are no finite number.

        """
        guard = self.learned(model, clean, run=run)
        return guard, scored(guard, clean.images, run=run)

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedIbdPsc:
        """Rebuild the guard from its files."""
        del tensors
        model: Classifier = common["model"]
        first, factor = values["first"], values["factor"]
        depths = len(_amplifiable(model.network))
        if type(first) is not int or not 1 <= first <= depths:
            raise DataError(f"expected a first depth of 1 to {depths}, got {first!r:.80}")
        if not 1 < float(factor) < math.inf:
            raise DataError(f"expected a factor above 1, got {factor!r:.80}")
        family = _family(model, first, float(factor), self.networks)
        return CalibratedIbdPsc(**common, first=first, factor=float(factor), amplified=family)


def _flattened(found: torch.Tensor) -> torch.Tensor:
    """Return log odds that grow as their logarithm beyond the usual bound: no network outweighs the others.

    Cut off there, the surest clean inputs and the backdoored ones would be alike.
    """
    beyond = (found.abs() - MOST).clamp(min=0)
    return found.clamp(-MOST, MOST) + found.sign() * beyond.log1p()


def _amplifiable(network: nn.Module) -> list[str]:
    """Return the names of the batch norms, or of the convolutions where there are none, the first first."""
    norms = {id(norm) for norm in batch_norms(network) if norm.affine}
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        name
        for name, module in network.named_modules()
        if (id(module) in norms if norms else isinstance(module, kinds))
    ]


def _amplified(model: Classifier, depth: int, factor: float) -> Classifier:
    """Return a copy in which the last `depth` layers put out `factor` times as much."""
    made = model.copy()
    modules = dict(made.network.named_modules())
    with torch.no_grad():
        for name in _amplifiable(made.network)[-depth:]:
            for parameter in modules[name].parameters(recurse=False):
                parameter.mul_(factor)
    return made


def _first_depth(
    model: Classifier, images: torch.Tensor, truth: torch.Tensor, factor: float, wrong: float
) -> int | None:
    """Return the first depth at which a share `wrong` of the images is answered wrongly, or None."""
    for depth in range(1, len(_amplifiable(model.network)) + 1):
        answers = _amplified(model, depth, factor).answers(images)
        if float((answers != truth).double().mean()) > wrong:
            return depth
    return None


def _family(model: Classifier, first: int, factor: float, count: int) -> tuple[Classifier, ...]:
    """Return the amplified networks: as many depths from the first one on as there are."""
    last = min(first + count - 1, len(_amplifiable(model.network)))
    return tuple(_amplified(model, depth, factor) for depth in range(first, last + 1))
