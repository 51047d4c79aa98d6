"""Rejected inputs: the latest ones in memory for the page, and a bounded number of them in a folder."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from detrojan.errors import InputError
from detrojan.files import save_bytes
from detrojan.serve.pictures import png

#: pictures on the page
SHOWN = 12
_OWN = re.compile(r"\d{8}T\d{6}Z-\d{9}-(score|overflow)\.png$")


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """One rejected input.

    Attributes:
        at: when, seconds since 1970.
        score: higher where more suspicious; maybe not finite.
        label: what the model would answer.
        reason: "score" or "overflow".
        image: as PNG; None where it is neither grey nor coloured.
        number: counts the rejected inputs, from 1.
        pixels: (C, H, W) in [0, 1].

    """

    at: float
    score: float
    label: int
    reason: str
    image: bytes | None
    number: int
    pixels: torch.Tensor


class Keeper:
    """Keeps rejected inputs.

    Args:
        folder: where PNG files go, or None.
        most: files there; the oldest of its own go first.

    Raises:
        InputError: the folder cannot be made.

    """

    def __init__(self, folder: Path | None, most: int) -> None:
        self.folder, self.most = folder, most
        self._latest = deque[Rejected](maxlen=SHOWN)
        self._files = deque[Path]()
        self._count = self._shown = 0
        self._shown_lock, self._files_lock = threading.Lock(), threading.Lock()
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._files.extend(sorted(path for path in folder.iterdir() if _OWN.match(path.name)))
            except OSError as error:
                raise InputError(f"cannot keep inputs in {folder}: {error}") from error

    def add(self, image: torch.Tensor, *, at: float, score: float, label: int, reason: str) -> None:
        """Keep one input (C, H, W); several threads may do so at once.

        Raises:
            InputError: the folder cannot be written.

        """
        content = png(image)
        with self._shown_lock:
            self._shown += 1
            one = Rejected(
                at=at, score=score, label=label, reason=reason, image=content,
                number=self._shown, pixels=image.cpu().clone(),
            )  # fmt: skip
            self._latest.append(one)
        if self.folder is not None and one.image is not None:
            with self._files_lock:
                self._write(self.folder, one, one.image)

    @property
    def latest(self) -> list[Rejected]:
        """The latest inputs, the oldest of them first."""
        with self._shown_lock:
            return list(self._latest)

    def _write(self, folder: Path, one: Rejected, content: bytes) -> None:
        self._count += 1
        moment = datetime.fromtimestamp(one.at, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = folder / f"{moment}-{self._count:09}-{one.reason}.png"
        save_bytes(path, content)
        self._files.append(path)
        while len(self._files) > self.most:
            self._files.popleft().unlink(missing_ok=True)
