"""Networks held in evaluation mode and frozen, however many threads ask them at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

#: pixels that a processor is asked about in one go, and the fewest images; more are slower and need memory
PIXELS, FEWEST = 512 * 64 * 64, 8
#: an image of more pixels than this is large, and networks for them are deep: fewer pixels in one go
LARGE, LARGE_PIXELS = 112 * 112, 128 * 64 * 64


def pieces(images: torch.Tensor, batch: int, device: torch.device) -> list[torch.Tensor]:
    """Return images (N, C, H, W) in the pieces that are judged in one go.

    Args:
        images: to judge.
        batch: images in one piece, at most.
        device: where they are judged; a processor takes fewer large ones at a time.

    """
    if device.type == "cpu":
        area = max(1, images.shape[2] * images.shape[3])
        batch = min(batch, max(FEWEST, (LARGE_PIXELS if area > LARGE else PIXELS) // area))
    return [images[first : first + batch] for first in range(0, len(images), batch)]


class _Hold:
    """How many are asking one network, and how it was before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.modes: list[tuple[nn.Module, bool]] = []
        self.grads: list[tuple[nn.Parameter, bool]] = []

    def enter(self, network: nn.Module) -> None:
        with self.lock:
            if self.count == 0:
                self.modes = [(module, module.training) for module in network.modules()]
                self.grads = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
                try:
                    network.eval()
                    for parameter, _ in self.grads:
                        parameter.requires_grad_(False)
                except BaseException:
                    self._restore()
                    raise
            self.count += 1

    def leave(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0:
                self._restore()

    def _restore(self) -> None:
        for module, mode in self.modes:
            module.training = mode
        for parameter, needs in self.grads:
            parameter.requires_grad_(needs)
        self.modes, self.grads = [], []


_holds: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()
_holds_lock = threading.Lock()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Run the body with a network in evaluation mode and its parameters frozen.

    Several threads may do so at once, and a body within another. The first one in sets the modes; the last
    one out restores the mode of every module and each parameter's `requires_grad`. Nobody may train the
    network meanwhile.
    """
    with _holds_lock:
        hold = _holds.setdefault(network, _Hold())
    hold.enter(network)
    try:
        yield network
    finally:
        hold.leave()
