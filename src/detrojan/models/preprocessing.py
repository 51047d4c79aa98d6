"""What is done to images before a network sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from detrojan.errors import ModelError, OptionError

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR", "grey"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

#: networks whose input has this side or more are commonly shown the centre of a photo; smaller ones all of it
LARGE = 160
#: ... whose shorter side is brought to this many times the network's first
MARGIN = 256 / 224


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a picture of any size becomes one of the network's size.

    Attributes:
        resize: (H, W) that the picture is brought to whatever its proportions; or one number, to which its
            shorter side is brought while the proportions stay.
        crop: (H, W) that is cut out of its centre afterwards; None keeps all of it.
        interpolation: how it is resized.
        antialias: whether what is made smaller is smoothed first, as Pillow does.
        assumed: whether nothing states it; then it is used with a warning, and pictures that are no larger
            than the result are resized as they are, without a crop.

    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    assumed: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        for sides in (self.size_before, self.crop or (1, 1)):
            if len(sides) != 2:
                raise ModelError(f"expected height and width to bring pictures to, got {sides}")
        for side in (*self.size_before, *(self.crop or ())):
            if not 1 <= side <= 4096:
                raise ModelError(f"expected sides of 1 to 4096 pixels to bring pictures to, got {side}")
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise ModelError(f"expected an interpolation out of {known}, got {self.interpolation!r}")

    def for_size(self, size: tuple[int, int]) -> Framing:
        """Return how pictures become (H, W): the same, with the crop that is missing where one is.

        Raises:
            ModelError: it gives another size.

        """
        if isinstance(self.resize, int) and self.crop is None:
            return replace(self, crop=size)
        if self.size != size:
            raise ModelError(
                f"expected a framing that gives the network's {_by(size)}, got {self}; "
                "state another one with --preprocess FILE, or --resize"
            )
        return self

    @classmethod
    def usual(cls, size: tuple[int, int]) -> Framing:
        """Return what is commonly done where nothing states it, for a network that takes (H, W)."""
        if size[0] != size[1] or size[0] < LARGE:
            return cls(resize=size, assumed=True)
        return cls(resize=round(size[0] * MARGIN), crop=size, assumed=True)

    def for_picture(self, size: tuple[int, int]) -> Framing:
        """Return how a picture of (H, W) is framed: as stated; on a guess, a small one is left whole."""
        wanted = self.size
        if not self.assumed or size[0] > wanted[0] or size[1] > wanted[1]:
            return self
        return replace(self, resize=wanted, crop=None)

    @property
    def done(self) -> str:
        """What is done to a picture, e.g. "resized to 256 (bicubic) and cropped to 224x224"."""
        to = self.resize if isinstance(self.resize, int) else _by(self.resize)
        how = self.interpolation + ("" if self.antialias else " without antialias")
        return f"resized to {to} ({how})" + (f" and cropped to {_by(self.crop)}" if self.crop else "")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result; of a square picture where no crop is stated."""
        return self.crop or self.size_before

    def __str__(self) -> str:
        """Describe it in one line, e.g. "shorter side to 256, bilinear, centre crop 224x224"."""
        whole = isinstance(self.resize, int)
        sides = f"shorter side to {self.resize}" if whole else f"to {_by(self.size_before)}"
        said = [sides, self.interpolation + ("" if self.antialias else " without antialias")]
        return ", ".join([*said, *([f"centre crop {_by(self.crop)}"] if self.crop else [])])

    @property
    def size_before(self) -> tuple[int, int]:
        """(H, W) before the crop, of a square picture."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to images in [0, 1] before the network sees them.

    An image x becomes (low + x * (high - low) - mean) / std, then the stated order of channels and layout.

    Attributes:
        low: what the network expects for black.
        high: what the network expects for white.
        mean: subtracted per channel, in the network's units; one value or one per channel.
        std: divided by per channel, in the network's units; one value or one per channel.
        channels: the order in which the network takes the colours; mean and std are in this order. "grey"
            where coloured pictures are made grey first.
        layout: the order of the network's input dimensions.
        framing: how pictures of another size are brought to the network's; None where nothing says so. The
            data's reader does this, before the images are in [0, 1].

    """

    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"
    channels: Channels = "RGB"
    framing: Framing | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if not self.low < self.high:
            raise ModelError(f"expected an input range low < high, got {self.low:g} to {self.high:g}")
        if self.channels not in get_args(Channels):
            raise ModelError(f"expected the channels RGB, BGR or grey, got {self.channels!r}")
        if any(value <= 0 for value in self.std):
            raise ModelError(f"expected standard deviations above 0, got {self.std}")

    def affine(self, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and shift, each (C, 1, 1), for the channels of an image as it is: RGB.

        `arranged` brings x * scale + shift to the network's order.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ModelError(f"expected 1 or {channels} values of {name}, got {len(values)}")
        mean = torch.tensor(self.mean, dtype=torch.float64).expand(channels)
        std = torch.tensor(self.std, dtype=torch.float64).expand(channels)
        scale = (self.high - self.low) / std
        shift = (self.low - mean) / std
        if self.channels == "BGR":
            scale, shift = scale.flip(0), shift.flip(0)
        return scale.float()[:, None, None], shift.float()[:, None, None]

    def arranged(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return scaled images (N, C, H, W) in the network's order of channels and dimensions."""
        seen = pixels.flip(1) if self.channels == "BGR" else pixels
        return seen.permute(0, 2, 3, 1) if self.layout == "NHWC" else seen

    def undone(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the images (N, C, H, W) in [0, 1] that became `seen`, what the network is fed with."""
        pixels = seen.permute(0, 3, 1, 2) if self.layout == "NHWC" else seen
        pixels = pixels.flip(1) if self.channels == "BGR" else pixels
        scale, shift = self.affine(pixels.shape[1])
        return (pixels - shift) / scale

    @property
    def normalised(self) -> bool:
        """Whether a mean or a standard deviation is stated."""
        return set(self.mean) != {0.0} or set(self.std) != {1.0}

    def __str__(self) -> str:
        """Describe it in one line, e.g. "0..255, mean 0, std 1, NCHW"."""
        mean = "/".join(f"{value:g}" for value in self.mean)
        std = "/".join(f"{value:g}" for value in self.std)
        return f"{self.low:g}..{self.high:g}, mean {mean}, std {std}, {self.layout}" + (
            "" if self.channels == "RGB" else f", {self.channels}"
        )


def _standard(mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    return Preprocessing(mean=mean, std=std)


#: what networks are commonly trained with, by the name that `--preprocess` takes; the commoner stand first
PRESETS: dict[str, Preprocessing] = {
    "unit": Preprocessing(),
    "bytes": Preprocessing(high=255.0),
    "imagenet": _standard((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": Preprocessing(low=-1.0),
    "cifar10": _standard((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar10_per_image": _standard((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": _standard((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "clip": _standard((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "gtsrb": _standard((0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669)),
    "caffe": Preprocessing(high=255.0, mean=(103.939, 116.779, 123.68), channels="BGR"),
    "mnist": _standard((0.1307,), (0.3081,)),
    "fashion_mnist": _standard((0.2860,), (0.3530,)),
}


def preset(name: str) -> Preprocessing:
    """Return the preprocessing that a name stands for.

    Raises:
        OptionError: no such name.

    """
    if name not in PRESETS:
        raise OptionError(f"expected a preprocessing out of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
