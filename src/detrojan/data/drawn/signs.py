"""The embedded default data: traffic signs drawn on the spot, so that a demonstration needs no download."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.sign_shapes import SIGNS, sign_faces
from detrojan.errors import OptionError

#: images drawn and the seed, per split
SPLITS = {"train": (6000, 101), "test": (2000, 202), "val": (1000, 303)}
#: images per batch while drawing; part of what a seed means
_BATCH = 250
#: signs are drawn at this many times the size of the image, then averaged down
_FINER = 2

#: pairs of (upper, lower) background colours: sky and field, sky and street, wood, brick, concrete, dusk
_SCENES = torch.tensor(
    [
        [[0.60, 0.74, 0.90], [0.30, 0.42, 0.18]],
        [[0.78, 0.82, 0.86], [0.40, 0.40, 0.42]],
        [[0.20, 0.30, 0.14], [0.28, 0.36, 0.16]],
        [[0.55, 0.34, 0.26], [0.38, 0.34, 0.30]],
        [[0.62, 0.60, 0.57], [0.46, 0.45, 0.44]],
        [[0.48, 0.52, 0.66], [0.16, 0.17, 0.16]],
        [[0.86, 0.88, 0.92], [0.34, 0.30, 0.20]],
        [[0.36, 0.52, 0.80], [0.14, 0.22, 0.10]],
    ]
)


def signs(split: str = "train") -> Dataset:
    """Return the train (6000), test (2000) or val (1000) signs: 32x32, colour, 18 classes.

    Raises:
        OptionError: another split.

    """
    if split not in SPLITS:
        raise OptionError(f"expected the signs' split {', '.join(SPLITS)}, got {split!r}")
    count, seed = SPLITS[split]
    return draw_signs(count, seed=seed)


def draw_signs(count: int, *, seed: int = 0, size: int = 32) -> Dataset:
    """Draw traffic signs in varied pose, light, blur and surroundings.

    Args:
        count: number of images; the classes are balanced and shuffled.
        seed: equal seeds (with equal count and size) give equal bytes.
        size: edge of the images in pixels, 8 to 256.

    Returns:
        Images (count, 3, size, size), whole multiples of 1/255, with labels and class names.

    Raises:
        OptionError: count below 1, or size outside its range.

    """
    if count < 1:
        raise OptionError(f"expected at least 1 sign, got {count}")
    if not 8 <= size <= 256:
        raise OptionError(f"expected signs of 8 to 256 pixels, got {size}")
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(SIGNS)
    labels = labels[torch.randperm(count, generator=random)]
    pixels = torch.cat([_draw(part, size, random) for part in torch.split(labels, _BATCH)])
    return Dataset(
        images=pixels.float() / 255,
        labels=labels,
        class_names=tuple(SIGNS),
        source="signs",
        sha256=hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest(),
        notes=(f"{count} drawn traffic signs, seed {seed}",),
    )


def _draw(labels: torch.Tensor, size: int, random: torch.Generator) -> torch.Tensor:
    """Return (n, 3, size, size) uint8 for the labels (n,)."""
    scene = _backgrounds(len(labels), size, random)
    posed = functional.avg_pool2d(_pose(_faces(size * _FINER)[labels], random), _FINER)
    colour, opacity = posed[:, :3], posed[:, 3:]
    scene = scene * (1 - opacity) + _worn(colour, opacity, random)
    images = _photographed(_covered(scene, random), random)
    return images.mul(255).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=4)
def _faces(size: int) -> torch.Tensor:
    return torch.from_numpy(sign_faces(size))


def _between(low: float, high: float, count: int, random: torch.Generator) -> torch.Tensor:
    """Return (count, 1, 1, 1) uniform numbers."""
    return torch.rand(count, 1, 1, 1, generator=random) * (high - low) + low


def _some(share: float, count: int, random: torch.Generator) -> torch.Tensor:
    """Return (count, 1, 1, 1) of ones and zeros, ones for about this share."""
    return (torch.rand(count, 1, 1, 1, generator=random) < share).float()


def _clouds(count: int, channels: int, cells: int, size: int, random: torch.Generator) -> torch.Tensor:
    """Return smooth noise with a standard deviation of about 1, in patches of size / cells pixels."""
    coarse = torch.randn(count, channels, cells, cells, generator=random)
    return functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def _grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y, each (1, 1, size, size), from -1 to 1 at the centres of the pixels."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    return line[None, None, None, :].expand(1, 1, size, size), line[None, None, :, None].expand(
        1, 1, size, size
    )


def _backgrounds(count: int, size: int, random: torch.Generator) -> torch.Tensor:
    """Draw sky, ground, leaves, walls and a post: (count, 3, size, size)."""
    x, y = _grid(size)
    colours = _SCENES[torch.randint(len(_SCENES), (count,), generator=random)]
    # mostly lighter or darker, hardly another hue: nature has little magenta
    colours = colours * (1 + 0.2 * torch.randn(count, 2, 1, generator=random))
    colours = colours + 0.025 * torch.randn(colours.shape, generator=random)
    upper, lower = colours[:, 0, :, None, None], colours[:, 1, :, None, None]
    horizon = _between(-0.5, 1.1, count, random) + _between(-0.3, 0.3, count, random) * x
    horizon = horizon + 0.12 * _clouds(count, 1, 8, size, random)[:, :, :1]
    ground = ((y - horizon) * _between(3, 20, count, random)).sigmoid()
    scene = upper * (1 - ground) + lower * ground
    # a bush or a house wall on one side, with an uneven edge
    side = (x * (1 - 2 * _some(0.5, count, random)) - _between(0.0, 1.2, count, random)) * 8
    side = (side + 1.5 * _clouds(count, 1, 9, size, random)).sigmoid() * _some(0.6, count, random)
    tint = _SCENES.flatten(0, 1)[torch.randint(2 * len(_SCENES), (count,), generator=random)]
    tint = tint[:, :, None, None] * _between(0.4, 1.1, count, random)
    scene = scene * (1 - side) + tint * side
    rough = _between(0.0, 0.09, count, random)
    texture = _clouds(count, 1, 6, size, random) + 0.8 * _clouds(count, 1, 17, size, random)
    scene = scene + rough * (texture + 0.3 * _clouds(count, 3, 11, size, random))
    aside = (x - _between(-0.08, 0.08, count, random)).abs()
    post = (
        ((_between(0.04, 0.09, count, random) - aside) * 40).sigmoid() * (y > 0) * _some(0.7, count, random)
    )
    scene = scene * (1 - post) + _between(0.3, 0.65, count, random) * post
    return scene.clamp(0, 1)


def _pose(faces: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Turn, tilt, shear, scale and shift each face (n, 4, s, s), with perspective."""
    count, _, size, _ = faces.shape

    def draw(low: float, high: float) -> torch.Tensor:
        return _between(low, high, count, random).view(count)

    angle = torch.randn(count, generator=random).clamp(-2.5, 2.5) * math.radians(4)
    scale, stretch = draw(0.82, 0.98), draw(0.93, 1.07)
    wide, high = scale * stretch.clamp(max=1.0), scale / stretch.clamp(min=1.0)
    free = (1 - scale).clamp(0.04, 0.12)
    x, y, one = draw(-1, 1) * free, draw(-1, 1) * free, torch.ones(count)
    # the homography from a place in the image to the place on the face that is seen there
    down = torch.stack([-angle.sin() / high, angle.cos() / high, 0 * one], dim=1)
    across = torch.stack([angle.cos() / wide, angle.sin() / wide, 0 * one], dim=1)
    across = across + draw(-0.08, 0.08)[:, None] * down
    depth = torch.stack([draw(-0.1, 0.1), draw(-0.08, 0.08), one], dim=1)
    turn = torch.stack([across, down, depth], dim=2)
    turn[:, 2] -= x[:, None] * turn[:, 0] + y[:, None] * turn[:, 1]
    places = torch.stack([*(part.flatten() for part in _grid(size)), torch.ones(size * size)], dim=1)
    seen = places @ turn
    grid = (seen[..., :2] / seen[..., 2:]).view(count, size, size, 2)
    return functional.grid_sample(faces, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _worn(colour: torch.Tensor, opacity: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Bleach, dirty and shade the sign itself; colours are multiplied by the opacity."""
    count, _, size, _ = colour.shape
    x, y = _grid(size)
    bleach = _between(0.0, 0.3, count, random)
    grey = colour.mean(dim=1, keepdim=True)
    colour = colour * (1 - bleach) + (0.6 * grey + 0.3 * opacity) * bleach
    tilt = _between(-0.22, 0.22, count, random) * x + _between(-0.22, 0.22, count, random) * y
    dirt = _between(0.0, 0.1, count, random) * _clouds(count, 1, 10, size, random)
    return (colour * (1 + tilt - dirt.abs())).clamp(0, 1)


def _covered(scene: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Let leaves hang into some pictures and shadows fall on some, edges across the sign."""
    count, _, size, _ = scene.shape
    x, y = _grid(size)
    angle = _between(0, 2 * math.pi, count, random)
    along = angle.cos() * x + angle.sin() * y
    leaves = (along - _between(0.55, 0.95, count, random)) * 9 + 1.6 * _clouds(count, 1, 12, size, random)
    leaves = (leaves * 2).sigmoid() * _some(0.22, count, random)
    green = torch.tensor([0.16, 0.26, 0.09])[:, None, None] * _between(0.5, 1.7, count, random)
    scene = scene * (1 - leaves) + green * leaves
    turn = _between(0, 2 * math.pi, count, random)
    edge = (turn.cos() * x + turn.sin() * y - _between(-0.4, 0.4, count, random)) * 14
    edge = edge + 0.8 * _clouds(count, 1, 6, size, random)
    return scene * (1 - edge.sigmoid() * _between(0.25, 0.6, count, random) * _some(0.25, count, random))


def _photographed(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Apply haze, exposure, colour cast, blur and sensor noise."""
    count = len(images)
    haze = _between(0.0, 0.2, count, random) * _some(0.5, count, random)
    images = images * (1 - haze) + _between(0.4, 0.85, count, random) * haze
    cast = 1 + 0.05 * torch.randn(count, 3, 1, 1, generator=random)
    exposure = torch.exp(_between(math.log(0.5), math.log(1.35), count, random))
    images = (images * cast * exposure).clamp(0, 1)
    images = images.pow(_between(0.75, 1.3, count, random))
    images = _blurred(images, random)
    noise = torch.randn(images.shape, generator=random) * _between(0.0, 0.025, count, random)
    return images + noise


def _blurred(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Mix each image with an evenly blurred and a sideways smeared copy of itself."""
    count = len(images)
    soft = images
    for dim in (2, 3):
        soft = _smoothed(soft, dim, (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16))
    smear = _smoothed(images, 3, (0.2,) * 5)
    blur = _between(-0.6, 0.7, count, random).clamp(min=0)
    images = images * (1 - blur) + soft * blur
    moved = _between(0.3, 0.8, count, random) * _some(0.1, count, random)
    return images * (1 - moved) + smear * moved


def _smoothed(images: torch.Tensor, dim: int, taps: tuple[float, ...]) -> torch.Tensor:
    """Average each pixel with its neighbours along one dimension; edges are repeated."""
    reach, size = len(taps) // 2, images.shape[dim]
    pad = (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0)
    padded = functional.pad(images, pad, mode="replicate")
    result = taps[0] * padded.narrow(dim, 0, size)
    for place, tap in enumerate(taps[1:], start=1):
        result.add_(padded.narrow(dim, place, size), alpha=tap)
    return result
