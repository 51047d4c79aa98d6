"""The networks of the literature, by the names the command line knows them by.

Each is built for any number of classes and ends in logits. Networks that come from Keras flatten
channels last, as Keras does, so that their dense kernels can be used as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import OptionError

#: what Keras adds to the variance in a batch norm if nobody says otherwise; PyTorch adds 1e-5
KERAS_EPSILON = 1e-3


def use_keras_epsilon(network: nn.Module) -> None:
    """Give every batch norm of a network Keras's epsilon, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = KERAS_EPSILON


class FlattenChannelsLast(nn.Module):
    """Flatten (N, C, H, W) in the order (H, W, C), as Keras does."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return (N, H * W * C)."""
        return maps.permute(0, 2, 3, 1).flatten(1)


class DeepID(nn.Module):
    """The face network of CSAW-HackML-2020: 55x47 faces, 1283 people, 601,643 parameters.

    Reference: Sun et al., Deep Learning Face Representation from Predicting 10,000 Classes, 2014.
    """

    def __init__(self, classes: int = 1283, channels: int = 3) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, 20, 4)
        self.conv_2 = nn.Conv2d(20, 40, 3)
        self.conv_3 = nn.Conv2d(40, 60, 3)
        self.conv_4 = nn.Conv2d(60, 80, 2)
        self.pool = nn.MaxPool2d(2)
        self.flatten = FlattenChannelsLast()
        self.fc_1 = nn.Linear(1200, 160)
        self.fc_2 = nn.Linear(960, 160)
        self.output = nn.Linear(160, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.pool(functional.relu(self.conv_1(images)))
        x = self.pool(functional.relu(self.conv_2(x)))
        third = self.pool(functional.relu(self.conv_3(x)))
        fourth = functional.relu(self.conv_4(third))
        joined = self.fc_1(self.flatten(third)) + self.fc_2(self.flatten(fourth))
        logits: torch.Tensor = self.output(functional.relu(joined))
        return logits


class SignCNN(nn.Sequential):
    """The traffic-sign network of the nine-class study: 32x32, 4,461,001 parameters.

    Its inputs have their histogram equalised; its batch norms have Keras's epsilon.
    """

    def __init__(self, classes: int = 9, channels: int = 3) -> None:
        def block(before: int, after: int, *more: nn.Module) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, 5, padding=2)
            return [conv, nn.ReLU(), nn.BatchNorm2d(after, KERAS_EPSILON), *more]

        super().__init__(
            *block(channels, 32, nn.MaxPool2d(2), nn.Dropout(0.25)),
            *block(32, 64),
            *block(64, 128, nn.MaxPool2d(2), nn.Dropout(0.25)),
            FlattenChannelsLast(),
            nn.Linear(8192, 512),
            nn.ReLU(),
            nn.BatchNorm1d(512, KERAS_EPSILON),
            nn.Dropout(0.5),
            nn.Linear(512, classes),
        )


class BadNetsCNN(nn.Sequential):
    """The two-convolution network of BadNets, for any input size: 5x5x16, pool, 5x5x32, pool, 512.

    Reference: Gu et al., BadNets: Evaluating Backdooring Attacks on Deep Neural Networks, 2019.

    Args:
        classes: number of labels.
        shape: (C, H, W) of the images.
        pool: "max" or "average".

    """

    def __init__(
        self, classes: int = 10, shape: tuple[int, int, int] = (1, 28, 28), pool: str = "average"
    ) -> None:
        channels, height, width = shape
        flat = 32 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        reduce: Callable[[int], nn.Module] = nn.AvgPool2d if pool == "average" else nn.MaxPool2d
        super().__init__(
            nn.Conv2d(channels, 16, 5),
            nn.ReLU(),
            reduce(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            reduce(2),
            nn.Flatten(),
            nn.Linear(flat, 512),
            nn.ReLU(),
            nn.Linear(512, classes),
        )


class SmallVGG(nn.Module):
    """A six-convolution VGG with ELU and batch norm, as used with I-BAU, for 32x32 images.

    Reference: Zeng et al., Adversarial Unlearning of Backdoors via Implicit Hypergradient, 2022.
    """

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()

        def pair(before: int, after: int, drop: float) -> list[nn.Module]:
            first = nn.Conv2d(before, after, 3, padding=1)
            second = nn.Conv2d(after, after, 3, padding=1)
            head = [first, nn.BatchNorm2d(after), nn.ELU(), second, nn.BatchNorm2d(after), nn.ELU()]
            return [*head, nn.MaxPool2d(2), nn.Dropout(drop)]

        self.features = nn.Sequential(*pair(channels, 32, 0.2), *pair(32, 64, 0.3), *pair(64, 128, 0.4))
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(2048, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(images)))
        return logits


class FiveConvCNN(nn.Module):
    """Five 3x3 convolutions with batch norm, global average, and a two-layer head, for 32x32 images."""

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()

        def conv(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]

        self.features = nn.Sequential(
            *conv(channels, 64),
            *conv(64, 64),
            nn.MaxPool2d(2),
            *conv(64, 128),
            *conv(128, 128),
            nn.MaxPool2d(2),
            *conv(128, 256),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


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


@dataclass(frozen=True)
class Net:
    """An entry of the list of networks.

    Attributes:
        name: what the command line calls it.
        summary: one line for people.
        shape: the (C, H, W) it is usually fed.
        classes: the usual number of classes.
        build: makes it, untrained, from (classes, shape).
        any_size: whether it takes any input size of at least 16x16.

    """

    name: str
    summary: str
    shape: tuple[int, int, int]
    classes: int
    build: Callable[[int, tuple[int, int, int]], nn.Module]
    any_size: bool = False


_NETS = (
    Net("deepid", "DeepID of CSAW-HackML-2020, faces", (3, 55, 47), 1283, lambda k, s: DeepID(k, s[0])),
    Net("sign_cnn", "traffic-sign CNN of the 9-class study", (3, 32, 32), 9, lambda k, s: SignCNN(k, s[0])),
    Net(
        "mnist_cnn",
        "2-conv CNN of BadNets, average pooling",
        (1, 28, 28),
        10,
        lambda k, s: BadNetsCNN(k, s, "average"),
        any_size=True,
    ),
    Net(
        "mnist_cnn_max",
        "2-conv CNN of BadNets, max pooling",
        (1, 28, 28),
        10,
        lambda k, s: BadNetsCNN(k, s, "max"),
        any_size=True,
    ),
    Net(
        "badnets_cnn",
        "2-conv CNN of BadNets on 32x32 colour images",
        (3, 32, 32),
        10,
        lambda k, s: BadNetsCNN(k, s, "average"),
        any_size=True,
    ),
    Net("small_vgg", "6-conv VGG with ELU and batch norm", (3, 32, 32), 10, lambda k, s: SmallVGG(k, s[0])),
    Net(
        "five_conv_cnn",
        "5 convolutions, batch norm, global average",
        (3, 32, 32),
        10,
        lambda k, s: FiveConvCNN(k, s[0]),
        any_size=True,
    ),
    Net(
        "wrn_16_1",
        "WRN-16-1 of Anti-Backdoor Learning",
        (3, 32, 32),
        10,
        lambda k, s: WideResNet(k, s[0]),
        any_size=True,
    ),
    Net(
        "preact_resnet18",
        "PreActResNet-18 of BackdoorBench",
        (3, 32, 32),
        10,
        lambda k, s: PreActResNet18(k, s[0]),
        any_size=True,
    ),
)
#: every network of this file by its name
NETS = {net.name: net for net in _NETS}


def find_net(name: str) -> Net:
    """Return the network called `name`.

    Raises:
        OptionError: there is none; the message lists those there are.

    """
    if name not in NETS:
        raise OptionError(f"expected a network out of {', '.join(NETS)}, got {name!r}")
    return NETS[name]
