"""Pictures that are sent as they are (PNG, JPEG, ...), brought to what the model takes; and back to PNG."""

from __future__ import annotations

import io

import torch
from PIL import Image

from detrojan.data.reading import read_held
from detrojan.data.source import Source, pictures_in
from detrojan.errors import DataError
from detrojan.jobs.feeding import framing_of, recoloured
from detrojan.models.classifier import Classifier
from detrojan.serve.refusals import malformed
from detrojan.words import printable


def read_picture(body: bytes, model: Classifier) -> torch.Tensor:
    """Return one picture as the model takes it, (1, C, H, W) in [0, 1].

    It is decoded in the quarantine, then brought to its size and colours as `detrojan predict` does it.

    Args:
        body: the compressed picture.
        model: whose size and colours it is brought to.

    Raises:
        RefusedError: it cannot be decoded, is huge, or nothing says how it is brought to the size.

    """
    held = Source(where="the picture", count=1, pictures=pictures_in(["the picture"], lambda _: body))
    try:
        data = recoloured(read_held(held, framing=framing_of(model)), model)
        model.check(data.images)
    except DataError as error:
        raise malformed(printable(str(error), 200)) from error
    return data.images


def png(image: torch.Tensor) -> bytes | None:
    """Return one image (C, H, W) in [0, 1] as PNG with 8 bits; None where it is neither grey nor coloured."""
    if image.shape[0] not in {1, 3}:
        return None
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(values[..., 0] if image.shape[0] == 1 else values).save(stream, "PNG")
    return stream.getvalue()
