"""Pictures that are sent as they are (PNG, JPEG, ...), brought to what the model takes; and back to PNG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from detrojan.data.channels import made_grey
from detrojan.data.decoding import decode, stated_size
from detrojan.data.geometry import framed
from detrojan.errors import DataError, RefusedError
from detrojan.jobs.feeding import framing_of
from detrojan.models.classifier import Classifier
from detrojan.serve.refusals import malformed, refused
from detrojan.words import printable

#: pixels of a picture that is decoded; a larger one is refused unseen
MOST_PIXELS = 2**24


def read_picture(body: bytes, model: Classifier) -> torch.Tensor:
    """Return one picture as the model takes it, (1, C, H, W) in [0, 1].

    It is framed and made grey as `detrojan predict` does it.

    Args:
        body: the compressed picture.
        model: whose size, framing and colours it is brought to.

    Raises:
        RefusedError: it cannot be decoded, is huge, or has other colours.

    """
    name = "the picture"
    try:
        _check_size(*stated_size(io.BytesIO(body), name))
        found = decode(io.BytesIO(body), name).pixels
        wide = found.dtype == np.uint16
        framing = framing_of(model)
        if found.shape[:2] != framing.size:
            found = framed(found, framing)
    except RefusedError:
        raise
    except DataError as error:
        raise malformed(printable(str(error), 200)) from error
    white = 65535 if wide else 255
    image = torch.from_numpy(found.astype(np.float32) / white).permute(2, 0, 1)[None].clamp(0, 1)
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


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise refused("too large", f"expected at most {MOST_PIXELS:,} pixels, got {width}x{height}")


def png(image: torch.Tensor) -> bytes | None:
    """Return one image (C, H, W) in [0, 1] as PNG with 8 bits; None where it is neither grey nor coloured."""
    if image.shape[0] not in {1, 3}:
        return None
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(values[..., 0] if image.shape[0] == 1 else values).save(stream, "PNG")
    return stream.getvalue()
