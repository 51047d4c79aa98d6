"""Which labels swallow inputs that a network was not made for: a backdoor's target is often among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from detrojan.data.drawn.distortions import blended, painted, shuffled
from detrojan.data.drawn.signs import draw_signs
from detrojan.data.drawn.synthetic import gradients, noise, smooth_noise
from detrojan.errors import OptionError
from detrojan.models.classifier import Classifier

#: the kinds of images that are made
KINDS = ("painted", "blended", "shuffled", "noise", "smooth noise", "gradients", "signs")
#: signs are drawn once in this many variants, then brought to the network's size
_SIGNS = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class Attraction:
    """What each label gets of the inputs that no network was made for.

    Attributes:
        share: share of the answers (K,), the mean over the kinds of inputs.
        probability: mean probability (K,), likewise: tells labels apart that are never the answer.
        plain: share of the answers on the plain images (K,).
        by_kind: share of the answers per kind of input, each (K,).
        images: how many images were judged.

    """

    share: torch.Tensor
    probability: torch.Tensor
    plain: torch.Tensor
    by_kind: dict[str, torch.Tensor]
    images: int

    @property
    def score(self) -> torch.Tensor:
        """Logarithm of a label's attraction (K,): the mean of share and probability."""
        return ((self.share + self.probability) / 2).clamp(min=1e-12).log()


def attraction(
    model: Classifier, images: torch.Tensor, random: torch.Generator, *, count: int = 1400
) -> Attraction:
    """Feed `model` images that it was not made for, and see which labels get them.

    The images given are painted on, blended with each other and shuffled in tiles; noise, smooth
    noise, gradients with shapes and traffic signs need no images. Forward passes only.

    Args:
        model: the network.
        images: (N, C, H, W) in [0, 1], of whatever domain.
        random: randomness.
        count: how many images to make of all kinds together; 7 or more.

    Raises:
        OptionError: fewer than 7.

    """
    kinds = strange_images(images, random, count=count)
    classes = model.num_classes
    plain = _shares(model.answers(images), classes)
    by_kind, probabilities = {}, []
    for kind, made in kinds.items():
        given = model.probabilities(made).double()
        by_kind[kind] = _shares(given.argmax(1), classes)
        probabilities.append(given.mean(0))
    return Attraction(
        share=torch.stack(list(by_kind.values())).mean(0),
        probability=torch.stack(probabilities).mean(0),
        plain=plain,
        by_kind=by_kind,
        images=len(images) + sum(len(made) for made in kinds.values()),
    )


def strange_images(
    images: torch.Tensor, random: torch.Generator, *, count: int = 1400
) -> dict[str, torch.Tensor]:
    """Return images that no network was made for, by kind, each (n, C, H, W) in [0, 1].

    Raises:
        OptionError: a count below 7, the number of kinds.

    """
    if count < len(KINDS):
        raise OptionError(f"expected a count of {len(KINDS)} images or more, one of each kind, got {count}")
    each = count // len(KINDS)
    shape = (images.shape[1], images.shape[2], images.shape[3])

    def some() -> torch.Tensor:
        return images[torch.randint(len(images), (each,), generator=random)]

    made = (
        painted(some(), random),
        blended(some(), some(), random),
        shuffled(some(), random),
        noise(each, shape, random),
        smooth_noise(each, shape, random),
        painted(gradients(each, shape, random), random),
        _signs(each, shape, random),
    )
    return dict(zip(KINDS, made, strict=True))


def _signs(count: int, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
    drawn = draw_signs(min(count, _SIGNS), seed=int(torch.randint(2**31, (1,), generator=random))).images
    drawn = drawn.repeat(-(-count // len(drawn)), 1, 1, 1)[:count]
    sized = functional.interpolate(drawn, shape[1:], mode="bilinear", antialias=True).clamp(0, 1)
    return sized if shape[0] == 3 else sized.mean(1, keepdim=True)


def _shares(answers: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.bincount(answers, minlength=classes).double() / len(answers)
