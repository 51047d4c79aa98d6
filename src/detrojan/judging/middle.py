"""Large images are searched on their middle part, where the network allows it: most of the time is saved.

A convolutional network that pools over all places before its last layer answers a part of an image much as
it answers the whole, and a trigger does the same in a part. Nothing is resized, so triggers keep their scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from detrojan.errors import ModelError
from detrojan.judging.preparing import Prepared
from detrojan.machine import give_memory_back
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.triggers.additive import AdditiveTrigger
from detrojan.triggers.base import Trigger
from detrojan.triggers.filtered import FilterTrigger
from detrojan.triggers.patch import PatchTrigger
from detrojan.triggers.warp import WarpTrigger

#: images whose shorter side is at most this are searched whole
LARGE = 112
#: sides of parts that are tried, the smallest first, where they are at most this share of the image's side
SIDES, MOST = (96, 112, 128, 160, 192), 0.72
#: images that are enough to see that
IMAGES = 128
#: images that a shown trigger is placed with, and those that it is then measured with
PLACING, MEASURING = 48, 128
#: the same where the time is up; and all answers together that it takes then, at five places
PLACING_IN_A_HURRY, MEASURING_IN_A_HURRY = 16, 48
PLACED_IN_A_HURRY = 5 * PLACING_IN_A_HURRY + MEASURING_IN_A_HURRY


@dataclass(frozen=True, kw_only=True)
class Middle:
    """A network that is asked about the middle part of its images only.

    Attributes:
        model: the same network, for images of the part's size.
        whole: the network as it is.
        side: height and width of the part, in pixels.
        alike: share of images whose part is answered as the whole image is, 0 to 1.

    """

    model: Classifier
    whole: Classifier
    side: int
    alike: float

    @property
    def place(self) -> tuple[int, int]:
        """The first row and column of the part."""
        _, height, width = self.whole.input_shape
        return (height - self.side) // 2, (width - self.side) // 2

    def cut(self, images: torch.Tensor) -> torch.Tensor:
        """Return the middle part (N, C, side, side) of images (N, C, H, W)."""
        top, left = self.place
        return images[:, :, top : top + self.side, left : left + self.side].contiguous()

    def lifted(self, trigger: Trigger, place: tuple[int, int] | None = None) -> Trigger:
        """Return a trigger for the part as one for the whole image, at a place or in the middle."""
        _, height, width = self.whole.input_shape
        top, left = self.place if place is None else place
        around = (left, width - self.side - left, top, height - self.side - top)
        if isinstance(trigger, PatchTrigger):
            return PatchTrigger(functional.pad(trigger.mask, around), functional.pad(trigger.pattern, around))
        if isinstance(trigger, AdditiveTrigger):
            return AdditiveTrigger(functional.pad(trigger.change, around))
        if isinstance(trigger, FilterTrigger):
            return FilterTrigger(self.whole.input_shape, trigger.parts, trigger.strength)
        if isinstance(trigger, WarpTrigger):
            field = functional.interpolate(
                trigger.field[None], size=(height, width), mode="bicubic", align_corners=True
            )
            return WarpTrigger(field[0])
        raise ModelError(f"expected a patch or an additive trigger to place, got {type(trigger).__name__}")

    def prepared(self, ready: Prepared) -> Prepared:
        """Return a scan's images cut, with the network's answers to the parts as their truth."""
        images = self.cut(ready.images)
        answers = self.model.answers(images)
        return replace(ready, images=images, truth=answers, answers=answers)

    def said(self) -> str:
        """Return in words what was done."""
        _, height, width = self.whole.input_shape
        return (
            f"images of {height} x {width} were searched on their middle {self.side} x {self.side} pixels, "
            f"where the network answers {self.alike:.0%} of them as the whole; what is flagged was tried on "
            "whole images"
        )

    def placed(
        self,
        trigger: Trigger,
        target: int,
        search: tuple[torch.Tensor, torch.Tensor],
        held_out: tuple[torch.Tensor, torch.Tensor],
        *,
        hurry: bool = False,
    ) -> tuple[Trigger, float]:
        """Return a trigger for whole images where it works best, and its success on other images.

        Args:
            trigger: for the part.
            target: the label it leads to.
            search: whole images (N, C, H, W) and their truth, to choose the place with.
            held_out: the same, to measure it with.
            hurry: use few of them.

        """
        _, height, width = self.whole.input_shape
        down, across = height - self.side, width - self.side
        places = [self.place, (0, 0), (0, across), (down, 0), (down, across)]
        placing, measuring = (PLACING_IN_A_HURRY, MEASURING_IN_A_HURRY) if hurry else (PLACING, MEASURING)
        images, truth = (part[:placing] for part in search)
        best = max(
            (self.lifted(trigger, place) for place in places),
            key=lambda one: attack_success(self.whole, one, images, truth, target),
        )
        images, truth = (part[:measuring] for part in held_out)
        return best, attack_success(self.whole, best, images, truth, target)


def middle_of(
    model: Classifier,
    images: torch.Tensor,
    answers: torch.Tensor,
    sides: Sequence[int] = (),
    *,
    most: float = math.inf,
) -> Middle | None:
    """Return the smallest part of large images that the network answers as the whole; None where it cannot.

    Args:
        model: the network.
        images: clean ones (N, C, H, W).
        answers: its answers to them (N,).
        sides: of the parts that are tried; by default those that are usual.
        most: images that each of them is tried with.

    """
    channels, *size = model.input_shape
    if min(size) <= LARGE:
        return None
    some = torch.linspace(0, len(images) - 1, int(min(IMAGES, most, len(images)))).long()
    usual = answers[some].bincount(minlength=model.num_classes).amax() / len(some)
    for side in sides or SIDES:
        if side > MOST * min(size):
            break
        try:
            small = Classifier(
                model.network,
                (channels, side, side),
                preprocessing=model.preprocessing,
                class_names=model.class_names,
                origin=model.origin,
            )
        except ModelError:
            return None  # its size is built in
        if small.num_classes != model.num_classes:
            return None
        give_memory_back()  # images of another size do not fit into what is kept
        part = Middle(model=small, whole=model, side=side, alike=0.0)
        alike = float((small.answers(part.cut(images[some])) == answers[some]).float().mean())
        if alike >= (1 + float(usual)) / 2:  # one answer to everything would meet the usual share
            return replace(part, alike=alike)
    return None
