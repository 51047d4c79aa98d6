"""Residual networks: WRN-16-1 of Anti-Backdoor Learning, and PreActResNet-18 of BackdoorBench."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class _WideBlock(nn.Module):
    """Two pre-activation 3x3 convolutions; the first block of a stage is activated before it splits."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.same = before == after
        self.convShortcut = None if self.same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the block's maps."""
        active = self.relu1(self.bn1(images))
        out: torch.Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return out + (images if self.convShortcut is None else self.convShortcut(active))


class _WideStage(nn.Module):
    def __init__(self, before: int, after: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(_WideBlock(before if i == 0 else after, after, stride if i == 0 else 1) for i in range(blocks))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the stage's maps."""
        out: torch.Tensor = self.layer(images)
        return out


class WideResNet(nn.Module):
    """WRN-depth-width, pre-activation: WRN-16-1 is the network of Anti-Backdoor Learning's tables.

    Reference: Zagoruyko and Komodakis, Wide Residual Networks, 2016.
    """

    def __init__(self, classes: int = 10, channels: int = 3, depth: int = 16, width: int = 1) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        sizes = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, sizes[0], 3, 1, 1, bias=False)
        self.block1 = _WideStage(sizes[0], sizes[1], blocks, 1)
        self.block2 = _WideStage(sizes[1], sizes[2], blocks, 2)
        self.block3 = _WideStage(sizes[2], sizes[3], blocks, 2)
        self.bn1 = nn.BatchNorm2d(sizes[3])
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(sizes[3], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        maps = self.block3(self.block2(self.block1(self.conv1(images))))
        logits: torch.Tensor = self.fc(self.pool(self.relu(self.bn1(maps))).flatten(1))
        return logits


class _PreActBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False))
            if stride != 1 or before != after
            else None
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the block's maps."""
        active = functional.relu(self.bn1(images))
        skip = images if self.shortcut is None else self.shortcut(active)
        out: torch.Tensor = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return out + skip


class PreActResNet18(nn.Module):
    """Pre-activation ResNet-18 for small images: the network of the BackdoorBench tables.

    Reference: He et al., Identity Mappings in Deep Residual Networks, 2016.
    """

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        for number, (before, after, stride) in enumerate(sizes, 1):
            blocks = nn.Sequential(_PreActBlock(before, after, stride), _PreActBlock(after, after, 1))
            self.add_module(f"layer{number}", blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.conv1(images)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        logits: torch.Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits
