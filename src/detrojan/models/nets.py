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
from detrojan.models import library_nets
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.residual_nets import PreActResNet18, WideResNet

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
        preprocessing: how a library's published weights want their pictures; None for our own networks.

    """

    name: str
    summary: str
    shape: tuple[int, int, int]
    classes: int
    build: Callable[[int, tuple[int, int, int]], nn.Module]
    any_size: bool = False
    preprocessing: Preprocessing | None = None


def _max_pooled(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    return BadNetsCNN(classes, shape, "max")


def _sized(name: str, summary: str, kind: Callable[[int, int], nn.Module]) -> Net:
    """Return a network for colour images of any size, which `kind` makes from classes and channels."""
    return Net(name, summary, _COLOUR, 10, lambda k, s: kind(k, s[0]), any_size=True)


_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)
_NETS = (
    Net("deepid", "DeepID of CSAW-HackML-2020, faces", (3, 55, 47), 1283, lambda k, s: DeepID(k, s[0])),
    Net("sign_cnn", "traffic-sign CNN of the 9-class study", _COLOUR, 9, lambda k, s: SignCNN(k, s[0])),
    Net("mnist_cnn", "2-conv CNN of BadNets, average pooling", _GREY, 10, BadNetsCNN, any_size=True),
    Net("mnist_cnn_max", "2-conv CNN of BadNets, max pooling", _GREY, 10, _max_pooled, any_size=True),
    Net(
        "badnets_cnn", "2-conv CNN of BadNets on 32x32 colour images", _COLOUR, 10, BadNetsCNN, any_size=True
    ),
    Net("small_vgg", "6-conv VGG with ELU and batch norm", _COLOUR, 10, lambda k, s: SmallVGG(k, s[0])),
    _sized("five_conv_cnn", "5 convolutions, batch norm, global average", FiveConvCNN),
    _sized("wrn_16_1", "WRN-16-1 of Anti-Backdoor Learning", WideResNet),
    _sized("preact_resnet18", "PreActResNet-18 of BackdoorBench", PreActResNet18),
)
#: every network by its name
NETS = {net.name: net for net in _NETS}


def find_net(name: str) -> Net:
    """Return the network called `name`, one of ours or a library's such as "timm:resnet18".

    Raises:
        OptionError: there is none; the message lists those there are.
        MissingExtraError: the library is not installed.

    """
    if library_nets.is_library(name):
        said = library_nets.facts(name)
        return Net(
            name,
            f"of {name.partition(':')[0]}",
            said.shape,
            said.classes,
            lambda classes, shape: library_nets.build(name, classes, shape),
            preprocessing=said.preprocessing,
        )
    if name not in NETS:
        more = ", ".join(f"{library}:NAME" for library in library_nets.LIBRARIES)
        raise OptionError(f"expected a network out of {', '.join(NETS)}, {more}, got {name!r}")
    return NETS[name]


def is_net(name: str) -> bool:
    """Tell whether a name is one of ours, or says that it is a library's."""
    return name in NETS or library_nets.is_library(name)
