"""How the searches ask a network: channels last, flat, and with the slope by the pixels alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional

from detrojan.machine import bfloat16_is_fast
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.pace import Pace, find_pace
from detrojan.search.rewriting import rewritten
from detrojan.search.strided import StridedInFull, has_strided_depthwise
from detrojan.store import Store, digest

#: what was measured in this process for a network, by device, threads and precision
_PACES: WeakKeyDictionary[nn.Module, dict[tuple[str | int | bool, ...], Pace]] = WeakKeyDictionary()


def searches_in_half(run: Run) -> bool:
    """Whether searches multiply in bfloat16 there."""
    return not run.float32 and bfloat16_is_fast(torch.device(run.device))


def rewrite(model: Classifier, *, half: bool) -> None:
    """Have a copy of a network, which is only asked from now on, answer in less time."""
    channels, height, width = model.input_shape
    shape = (height, width, channels) if model.preprocessing.layout == "NHWC" else model.input_shape
    sample = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    with model.judging():
        by_tiles = model.device.type == "cpu" and not half
        model.network = rewritten(model.network, sample, by_tiles=by_tiles)


def quick(model: Classifier) -> Classifier:
    """Return a copy of a network that answers the same within rounding, in less time; it is only asked."""
    copy = model.copy()
    copy.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rewrite(copy, half=False)
    return copy


class Asking:
    """A copy of a network that answers for many jobs side by side.

    Attributes:
        device: where it computes.
        model: the copy.
        plain: whether it takes pixels as they are; or else `scale` and `shift` (C,) bring them there.
        half: whether it multiplies in bfloat16, where the device is made for that. A search only needs to
            know which way is down; what it finds is judged in float32 afterwards.
        manner: which layers are spared that.
        pace: samples per pass and threads that are fastest here; measured once for each network, and kept
            with the state of the work, so that what was interrupted goes on at the same one. At the same
            pace a repetition is exact. At another one sums are rounded otherwise: in float32, sizes differ by
            less than 2%, and verdicts do not.

    """

    def __init__(self, model: Classifier, run: Run) -> None:
        self.device = torch.device(run.device)
        self.half = searches_in_half(run)
        self.model = model.copy().to(self.device)
        self.model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        scale, shift = (part.flatten() for part in model.preprocessing.affine(model.input_shape[0]))
        self.plain = bool((scale == 1).all() and (shift == 0).all())
        self.scale, self.shift = scale.to(self.device), shift.to(self.device)
        slow = self.half and self.device.type == "cpu" and has_strided_depthwise(self.model.network)
        self.manner: AbstractContextManager[object] = StridedInFull() if slow else nullcontext()
        rewrite(self.model, half=self.half)
        self.pace = self._pace(_PACES.setdefault(model.network, {}), run.checkpoint)

    def _pace(self, known: dict[tuple[str | int | bool, ...], Pace], folder: Path | None) -> Pace:
        key = (str(self.device), torch.get_num_threads(), self.half)
        here = (*key, str(folder))
        if here in known:
            return known[here]
        store = Store(folder, "pace", {"of": key, "network": digest(self.model.network) if folder else ""})
        kept = store.load()
        if kept is not None:
            known[here] = Pace(**kept[1])
            return known[here]
        if key not in known:
            with self.model.judging():
                known[key] = find_pace(self._slope_of_grey, self.device)
        store.save({}, asdict(known[key]))
        known[here] = known[key]
        return known[here]

    def _slope_of_grey(self, samples: int) -> None:
        channels, height, width = self.model.input_shape
        grey = torch.full((1, samples, height * width * channels), 0.5, device=self.device)
        self.slope(grey, torch.zeros(1, samples, dtype=torch.long, device=self.device))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block the network is in evaluation mode, and as many threads compute as are fastest."""
        with self.model.judging(), self.pace.kept():
            yield

    def flat(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (N, C, H, W) channels last and flat, (N, H * W * C), on the device."""
        return images.permute(0, 2, 3, 1).reshape(len(images), -1).contiguous().to(self.device)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K), float32, of images as the network wants them, but channels last."""
        seen = self.model.preprocessing.arranged(pixels.permute(0, 3, 1, 2))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half), self.manner:
            logits: torch.Tensor = self.model.network(seen)
        return logits.float()

    def slope(
        self, stamped: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the network says of changed images, and how the loss depends on their pixels.

        Args:
            stamped: (J, B, H * W * C), in [0, 1].
            wanted: the label that each image is to reach (J, B).

        Returns:
            The share of each job's images that arrive (J,), their mean cross entropy (J,), and its slope
            (J, B, H * W * C).

        """
        count, size, _ = stamped.shape
        channels, height, width = self.model.input_shape
        pixels = stamped.view(count * size, height, width, channels)
        if not self.plain:
            pixels = torch.addcmul(self.shift, pixels, self.scale)
        pixels = pixels.detach().requires_grad_(True)
        wanted = wanted.flatten()
        logits = self.logits(pixels)
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        (slope,) = torch.autograd.grad(losses.sum() / size, pixels)
        slope = slope if self.plain else slope.mul_(self.scale)
        share = (logits.argmax(1) == wanted).view(count, size).float().mean(1)
        return share, losses.detach().view(count, size).mean(1), slope.reshape(stamped.shape)
