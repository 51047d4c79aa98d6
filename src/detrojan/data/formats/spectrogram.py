"""Spectrograms of recordings: speech as images, one channel, for the rest of the system."""

from __future__ import annotations

from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from detrojan.data.source import Array

#: what every recording is brought to, in Hz
RATE = 8000
#: how much of it is looked at, in seconds: longer ones are cut, shorter ones padded with silence
SECONDS = 1.0
#: rows of the image, from low frequencies (bottom) to high ones, and columns, from early to late
BANDS, FRAMES = 64, 64
#: what lies so far below the loudest is black, in dB
DEPTH = 80.0
_WINDOW = 256


def spectrogram(signal: Array, rate: int) -> NDArray[np.float32]:
    """Return the log-mel spectrogram of one recording as an image (64, 64, 1) in [0, 1].

    White is the loudest part of this very recording, black 80 dB less; silence is all black.

    Args:
        signal: samples (N,), of any scale.
        rate: samples per second.

    """
    from scipy import signal as processing  # noqa: PLC0415 - slow to import

    values = np.asarray(signal, dtype=np.float64)
    if rate != RATE:
        shared = gcd(rate, RATE)
        values = processing.resample_poly(values, RATE // shared, rate // shared)
    length = int(RATE * SECONDS)
    values = np.pad(values[:length], (0, max(0, length - len(values))))
    hop = length // FRAMES
    padded = np.pad(values, (_WINDOW // 2, _WINDOW // 2))
    starts = np.arange(FRAMES) * hop
    pieces = padded[starts[:, None] + np.arange(_WINDOW)] * processing.get_window("hann", _WINDOW)
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    heard = _mel_filters() @ power.T
    loudest = heard.max()
    if not loudest > 0:
        return np.zeros((BANDS, FRAMES, 1), dtype=np.float32)
    decibels = 10 * np.log10(np.maximum(heard / loudest, 10 ** (-DEPTH / 10)))
    image = 1 + decibels / DEPTH
    upright: NDArray[np.float32] = np.clip(image[::-1, :, None], 0, 1).astype(np.float32)
    return upright


@cache
def _mel_filters() -> NDArray[np.float64]:
    """Return triangles, evenly spread on the mel scale, (bands, frequencies)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    # the lowest bands are narrower than the distance of two frequencies: each takes its nearest one
    nearest = np.abs(frequencies - edges[1:-1, None]).argmin(1)
    empty = filters.sum(1) == 0
    filters[empty, nearest[empty]] = 1
    return filters
