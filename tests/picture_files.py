"""Pictures for tests: each has one grey level, by which it is recognised."""

import io

import numpy as np
from PIL import Image


def png(level, size=(4, 4)):
    """Return a picture of one grey level as bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def placed(path, level):
    """Write a picture of one grey level, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(level))
    return path


def levels(data):
    """Return the grey levels of pictures that were read."""
    return (data.images[:, 0, 0, 0] * 255).round().int().tolist()
