"""Draws triggers and stamped images as PNG: small pixels are enlarged, never smoothed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from detrojan.errors import DataError
from detrojan.findings import Finding
from detrojan.models.classifier import Classifier
from detrojan.report.closeup import closeup
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger
from detrojan.words import label_name

if TYPE_CHECKING:
    from PIL import Image

#: images that are shown stamped, and those among which they are looked for
EXAMPLES, LOOK = 6, 64
#: the shorter side that a single picture is enlarged to, in pixels
SIDE = 128
#: the gap between the pictures of a sheet, in pixels
GAP = 4


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image, and the same one stamped.

    Attributes:
        picture: a PNG, the image above and the stamped one below.
        given: what the model answers to the image, with its probability, or empty.
        stamped: the same for the stamped image.

    """

    picture: bytes
    given: str = ""
    stamped: str = ""


@dataclass(frozen=True, kw_only=True)
class TriggerPictures:
    """The pictures of one recovered trigger, each a PNG, or None where the trigger has no such part.

    Attributes:
        trigger: the trigger by itself; a patch is cut out and enlarged (see `closeup`).
        mask: opacity per pixel, from black (0) through red to light yellow (1).
        examples: images, each with the same one stamped.

    """

    trigger: bytes
    mask: bytes | None = None
    examples: tuple[Example, ...] = ()


def trigger_pictures(
    trigger: Trigger,
    images: torch.Tensor | None = None,
    *,
    examples: int = EXAMPLES,
    model: Classifier | None = None,
) -> TriggerPictures:
    """Return the pictures of a trigger.

    Args:
        trigger: what to draw.
        images: (N, C, H, W) in [0, 1], the first `examples` of which are shown stamped; or None.
        examples: how many, 1 or more.
        model: what answers them, or None.

    """
    shown = () if images is None else _examples(trigger, images[:examples], model)
    if not isinstance(trigger, PatchTrigger):
        return TriggerPictures(trigger=png(trigger.picture()), examples=shown)
    mask = png(heat(trigger.mask[0]))
    return TriggerPictures(trigger=png(closeup(trigger), side=1), mask=mask, examples=shown)


def pictures_of(
    findings: Sequence[Finding],
    images: torch.Tensor | None = None,
    *,
    examples: int = EXAMPLES,
    model: Classifier | None = None,
) -> dict[int, TriggerPictures]:
    """Return the pictures of every finding that has a trigger, by label.

    Args:
        findings: the flagged labels.
        images: (N, C, H, W) in [0, 1]; those that a trigger moves are shown stamped. Or None.
        examples: how many, 1 or more.
        model: what answers them, or None: then the first images are shown, whatever they are.

    """
    known = None if model is None or images is None else model.answers(images[:LOOK])
    drawn = {}
    for finding in findings:
        if finding.trigger is not None:
            shown = images
            if images is not None and known is not None:
                shown = images[: len(known)][finding.aim.victims(known)]
            drawn[finding.label] = trigger_pictures(finding.trigger, shown, examples=examples, model=model)
    return drawn


def _examples(trigger: Trigger, images: torch.Tensor, model: Classifier | None) -> tuple[Example, ...]:
    if not len(images):
        return ()
    stamped = trigger.stamp(images)
    said = [("", "")] * len(images)
    if model is not None:
        said = list(zip(answers_in_words(model, images), answers_in_words(model, stamped), strict=True))
    return tuple(
        Example(
            picture=stamped_rows(images[place : place + 1], stamped[place : place + 1]), given=a, stamped=b
        )
        for place, (a, b) in enumerate(said)
    )


def answers_in_words(model: Classifier, images: torch.Tensor) -> list[str]:
    """Return what the model answers to each image (N, C, H, W), e.g. "3 “stop” 99%"."""
    best = model.probabilities(images).max(1)
    names = model.class_names
    return [
        f"{label_name(label, names[label] if label < len(names) else '', 30)} {sure:.0%}"
        for label, sure in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def png(image: torch.Tensor, *, side: int = SIDE) -> bytes:
    """Return an image (C, H, W) in [0, 1] as PNG, its shorter side enlarged to at least `side`.

    Every pixel becomes a square of equal whole size; images larger than `side` stay as they are.

    Raises:
        DataError: not (C, H, W) with 1 or 3 channels.

    """
    return _encoded(_enlarged(_picture(image), side))


def contact_sheet(images: torch.Tensor, *, columns: int = 6, side: int = 96, background: int = 128) -> bytes:
    """Return images (N, C, H, W) in [0, 1] in rows of `columns`, as one PNG.

    Args:
        images: what to show.
        columns: pictures per row, 1 or more.
        side: the shorter side that each picture is enlarged to, in pixels.
        background: grey level of the gaps, 0 to 255.

    Raises:
        DataError: no images, or not (N, C, H, W).

    """
    from PIL import Image  # noqa: PLC0415 - only those who draw need it

    if images.ndim != 4 or not len(images):
        raise DataError(f"expected images (N, C, H, W) to draw, got shape {tuple(images.shape)}")
    cells = [_enlarged(_picture(image), side) for image in images]
    width, height = cells[0].size
    across = min(columns, len(cells))
    down = -(-len(cells) // across)
    size = (across * (width + GAP) - GAP, down * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, (background,) * 3)
    for place, cell in enumerate(cells):
        row, column = divmod(place, across)
        sheet.paste(cell.convert("RGB"), (column * (width + GAP), row * (height + GAP)))
    return _encoded(sheet)


def stamped_rows(images: torch.Tensor, stamped: torch.Tensor, *, side: int = 96) -> bytes:
    """Return a sheet of two rows: `images` above, the same images `stamped` below.

    Raises:
        DataError: the two differ in shape.

    """
    if images.shape != stamped.shape:
        raise DataError(
            f"expected as many stamped images as images, of one shape, "
            f"got {tuple(images.shape)} and {tuple(stamped.shape)}"
        )
    return contact_sheet(torch.cat([images.cpu(), stamped.cpu()]), columns=len(images), side=side)


def heat(mask: torch.Tensor) -> torch.Tensor:
    """Return opacities (H, W) in [0, 1] as colours (3, H, W), so that faint ones are seen too."""
    index = (mask.detach().cpu().float().nan_to_num(0).clamp(0, 1) * 255).round().long()
    return _heat_colours()[index].permute(2, 0, 1)


def data_uri(content: bytes) -> str:
    """Return a PNG as a `data:` address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


@cache
def _heat_colours() -> torch.Tensor:
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only those who draw need it

    return torch.tensor([mpl.colormaps["inferno"](level)[:3] for level in range(256)])


def _picture(image: torch.Tensor) -> Image.Image:
    from PIL import Image  # noqa: PLC0415 - only those who draw need it

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise DataError(f"expected an image (C, H, W) of 1 or 3 channels, got shape {tuple(image.shape)}")
    levels = (image.detach().cpu().float().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = levels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    times = max(1, -(-side // min(picture.size)))
    return picture.resize((picture.width * times, picture.height * times), resample=0)


def _encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def picture_values(drawn: TriggerPictures | None) -> dict[str, Any]:
    """Return what the templates show of a trigger."""
    shown = () if drawn is None else drawn.examples
    return {
        "trigger_uri": uri(None if drawn is None else drawn.trigger),
        "mask_uri": uri(None if drawn is None else drawn.mask),
        "examples": [
            {"uri": uri(entry.picture), "given": entry.given, "stamped": entry.stamped} for entry in shown
        ],
    }


def uri(content: bytes | None) -> str:
    """Return a picture as a page holds it, or an empty text where there is none."""
    return data_uri(content) if content else ""
