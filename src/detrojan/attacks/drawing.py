"""What teaches the drawing networks of image-aware triggers before there is a classifier."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from detrojan.triggers.input_aware import InputAwareTrigger

#: what keeps a distance from becoming a divisor of zero
TINY = 1e-6
#: where its drawing goes far beyond this, a mask is all or nothing and learns no more: it is held back
REACH, HOLD = 0.2, 10.0


def spread_ratio(images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return how far images differ from their neighbours, over how far what was drawn for them does."""

    def distance(maps: torch.Tensor) -> torch.Tensor:
        return (maps - maps.roll(1, 0)).square().flatten(1).mean(1).clamp(min=TINY).sqrt()

    return (distance(images) / (distance(drawn) + TINY)).mean()


class MaskTeacher(nn.Module):
    """Stands for a classifier, so that the one training loop can train the mask."""

    def __init__(
        self, trigger: InputAwareTrigger, density: float, norm: float, diversity: float, classes: int
    ) -> None:
        super().__init__()
        self.drawer, self.opacity = trigger.mask_drawer, trigger.opacity
        self.density, self.norm, self.diversity, self.classes = density, norm, diversity, classes
        self.loss = torch.zeros(())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Note the loss of the masks of these images (N, C, H, W); return zeros for logits."""
        drawn = self.drawer(images)
        masks = self.opacity(drawn)
        too_dense = functional.relu(masks - self.density).mean()
        too_far = functional.relu(drawn.abs() - REACH).square().mean()
        spread = self.diversity * spread_ratio(images, masks)
        self.loss = self.norm * too_dense + spread + HOLD * too_far
        return images.new_zeros(len(images), self.classes)


class PatternTeacher(nn.Module):
    """Generator and reader as one network: the reader says whether an image carries its own trigger."""

    def __init__(self, trigger: InputAwareTrigger, diversity: float) -> None:
        super().__init__()
        channels, width = trigger.shape[0], 2 * trigger.width

        def block(before: int, after: int) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
            return [conv, nn.BatchNorm2d(after), nn.ReLU()]

        self.drawer, self.patterns, self.masks = trigger.pattern_drawer, trigger.patterns, trigger.masks
        self.reader = nn.Sequential(
            *block(channels, width),
            *block(width, width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 1),
        )
        self.diversity = diversity
        self.loss = torch.zeros(())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Note the loss of the patterns of these images (N, C, H, W); return zeros for logits."""
        if not self.training:  # asked for its shape only
            return images.new_zeros(len(images), 2)
        patterns, masks = self.patterns(images), self.masks(images).expand_as(images)
        own = torch.lerp(images, patterns, masks)
        crossed = torch.lerp(images, patterns.roll(1, 0), masks.roll(1, 0))
        says = self.reader(torch.cat([own, crossed, images])).flatten()
        fits = torch.zeros(len(says), device=says.device)
        fits[: len(images)] = 1
        misread = functional.binary_cross_entropy_with_logits(says, fits)
        self.loss = misread + self.diversity * spread_ratio(images, patterns)
        return images.new_zeros(len(images), 2)
