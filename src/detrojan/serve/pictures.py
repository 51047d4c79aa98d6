"""Pictures that are sent as they are (PNG, JPEG, ...), brought to what the model takes; and back to PNG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from detrojan.data.channels import made_grey
from detrojan.data.decoding_apart import decoded
from detrojan.data.geometry import framed
from detrojan.data.source import Encoded
from detrojan.errors import DataError
from detrojan.jobs.feeding import framing_of
from detrojan.models.classifier import Classifier
from detrojan.serve.refusals import malformed
from detrojan.words import printable


def read_picture(body: bytes, model: Classifier) -> torch.Tensor:
    """Return one picture as the model takes it, (1, C, H, W) in [0, 1].

    It is decoded in the quarantine, then framed and made grey as `detrojan predict` does it.

    Args:
        body: the compressed picture.
        model: whose size, framing and colours it is brought to.

    Raises:
        RefusedError: it cannot be decoded, is huge, or has other colours.

    """
    ((_, found),) = decoded(iter([(0, Encoded("the picture", body))]), None)
    if isinstance(found, DataError):
        raise malformed(printable(str(found), 200))
    values, wide = found.pixels, found.pixels.dtype == np.uint16
    try:
        framing = framing_of(model)
        if values.shape[:2] != framing.size:
            values = framed(values, framing)
    except DataError as error:
        raise malformed(printable(str(error), 200)) from error
    white = 65535 if wide else 255
    image = torch.from_numpy(values.astype(np.float32) / white).permute(2, 0, 1)[None].clamp(0, 1)
    channels = model.input_shape[0]
    grey_first = model.preprocessing.channels == "grey"
    if image.shape[1] == 3 and (channels == 1 or grey_first):
        image = made_grey(image)
    if image.shape[1] == 1 and channels == 3:
        image = image.expand(-1, 3, -1, -1)
    try:
        model.check(image)
    except DataError as error:
        raise malformed(str(error)) from error
    return image.contiguous()


def png(image: torch.Tensor) -> bytes | None:
    """Return one image (C, H, W) in [0, 1] as PNG with 8 bits; None where it is neither grey nor coloured."""
    if image.shape[0] not in {1, 3}:
        return None
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(values[..., 0] if image.shape[0] == 1 else values).save(stream, "PNG")
    return stream.getvalue()
