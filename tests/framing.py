"""Frames a picture as `Framing` says it, by Pillow alone."""

_PILLOW = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


def framed(picture, framing, whole=round):
    """Return the picture resized, then cut out of the centre; `whole` rounds where half a pixel is left."""
    if isinstance(framing.resize, int):
        width, height = picture.size
        short = min(width, height)
        size = (width * framing.resize // short, height * framing.resize // short)
    else:
        size = framing.resize[::-1]
    picture = picture.resize(size, _PILLOW[framing.interpolation])
    if framing.crop is not None:
        top, left = (
            whole((have - want) / 2) for have, want in zip(picture.size[::-1], framing.crop, strict=True)
        )
        picture = picture.crop((left, top, left + framing.crop[1], top + framing.crop[0]))
    return picture
