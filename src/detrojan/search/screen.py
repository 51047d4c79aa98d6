"""Score every label in a moment: how far does one change, found in a few steps, send a few images to it?

Three steps on six images tell a backdoor's target from most of a thousand other labels: a trigger is
a direction in which the network gives way at once, for every image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from detrojan.errors import DataError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.asking import Asking
from detrojan.store import Store, digest, tensor_digest
from detrojan.triggers.aim import Aim

#: how a step's direction is remembered, and how far each step goes in shares of the strength
MEMORY, STRIDE = 0.5, 0.5
#: the state is written this often, where it is kept
SNAPSHOT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Screened:
    """What a screening says.

    Attributes:
        margins: mean logit of the label minus the highest other one, on the changed images, (J,).
        success: share of the changed images that arrive, (J,), 0 to 1.
        passes: forward+backward passes of one sample.

    """

    margins: torch.Tensor
    success: torch.Tensor
    passes: int


class _Screen:
    """One network, and changes of one strength."""

    def __init__(self, model: Classifier, strength: float, steps: int, run: Run) -> None:
        channels, height, width = model.input_shape
        self.size, self.steps = strength * (channels * height * width) ** 0.5, steps
        self.asking = Asking(model, run)
        self.device = self.asking.device
        self.passes = 0

    def score(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return margins and success of the best change found for each target.

        Args:
            images: (J, B, H, W, C), what each target's change is made for.
            targets: (J,).

        """
        change = torch.zeros(len(targets), *images.shape[2:], device=self.device)
        memory = torch.zeros_like(change)
        wanted = targets.repeat_interleave(images.shape[1])
        for _ in range(self.steps):
            changed = (images + change[:, None]).clamp_(0, 1).flatten(0, 1).requires_grad_(True)
            reached, others = _margin(self._logits(changed), wanted)
            (slope,) = torch.autograd.grad(functional.softplus(others - reached).sum(), changed)
            memory = memory * MEMORY + _unit(slope.view(images.shape).sum(1))
            change = change - STRIDE * self.size * _unit(memory)
            norm = change.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
            change = change * (self.size / norm).clamp(max=1)
        with torch.no_grad():
            reached, others = _margin(
                self._logits((images + change[:, None]).clamp_(0, 1).flatten(0, 1)), wanted
            )
        self.passes += len(wanted) * self.steps
        shape = images.shape[:2]
        return (reached - others).view(shape).mean(1), (reached > others).view(shape).float().mean(1)

    def _logits(self, changed: torch.Tensor) -> torch.Tensor:
        return self.asking.logits(torch.addcmul(self.asking.shift, changed, self.asking.scale))


def _margin(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each image's logit of the wanted label and the highest other one: the two that decide.

    Cross entropy would also push down a thousand labels that do not matter, and with so few steps
    that hides which labels are near.
    """
    reached = logits.gather(1, wanted[:, None])[:, 0]
    return reached, logits.scatter(1, wanted[:, None], -torch.inf).amax(1)


def _unit(values: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = values.flatten(1).norm(dim=1)
    return values / norm.clamp_min(1e-12)[:, None, None, None]


def screen(
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    targets: Sequence[int],
    *,
    run: Run,
    strength: float = 0.15,
    steps: int = 3,
    images_each: int = 6,
    sources: Sequence[int] | None = None,
    title: str = "screening",
    stop: Callable[[], bool] = lambda: False,
) -> Screened:
    """Score each label as a target, with a change of one strength for all.

    Args:
        model: the network; unchanged.
        images: clean images (N, C, H, W) in [0, 1].
        truth: their labels, or the network's answers (N,).
        targets: labels to score (J,).
        run: device, seed, progress.
        strength: root mean square of the change over all pixels, in (0, 1].
        steps: ascents per label; 1 or more.
        images_each: images per label; 1 or more.
        sources: where the images of each target come from (J,), or None for any other label.
        title: what the progress shows.
        stop: asked between parts; where it says yes, the labels not yet scored get -inf.

    Raises:
        DataError: no image that a target could be reached from.
        OptionError: a value out of its range.

    """
    if not 0 < strength <= 1 or steps < 1 or images_each < 1:
        raise OptionError(
            "expected a strength in (0, 1], steps and images_each of 1 or more, "
            f"got {strength:g}, {steps} and {images_each}"
        )
    work = _Screen(model, strength, steps, run)
    wanted = torch.tensor(list(targets), device=work.device)
    picks = _picks(truth, targets, sources, images_each, run)
    # few of the images, since the labels share theirs
    needed, places = picks.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    pixels = images[needed].permute(0, 2, 3, 1).contiguous().to(work.device)
    known = _Known(_store(model, images, wanted, picks, work, run), len(wanted), work.device)
    work.passes = known.passes
    at_once = max(1, work.asking.pace.samples // images_each)
    with run.progress.task(title, len(wanted)) as task, work.asking.at_work():
        task.advance(known.scored)
        try:
            while known.scored < len(wanted) and not stop():
                part = slice(known.scored, known.scored + at_once)
                known.take(part, *work.score(pixels[places[part]], wanted[part]), work.passes)
                task.advance(len(wanted[part]))
        finally:
            known.save()
    return Screened(margins=known.margins.cpu(), success=known.success.cpu(), passes=work.passes)


class _Known:
    """What is known of the labels so far: it goes on where it stopped."""

    def __init__(self, store: Store, count: int, device: torch.device) -> None:
        self.store, self.saved = store, time.monotonic()
        self.margins = torch.full((count,), -torch.inf, device=device)
        self.success = torch.zeros(count, device=device)
        self.scored, self.passes = 0, 0
        state = store.load()
        if state is not None:
            tensors, values = state
            self.margins, self.success = tensors["margins"].to(device), tensors["success"].to(device)
            self.scored, self.passes = int(values["scored"]), int(values["passes"])

    def take(self, part: slice, margins: torch.Tensor, success: torch.Tensor, passes: int) -> None:
        """Take over what a part of the labels scored, and write it from time to time."""
        self.margins[part], self.success[part] = margins, success
        self.scored, self.passes = min(part.stop, len(self.margins)), passes
        if time.monotonic() - self.saved > SNAPSHOT_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the state."""
        tensors = {"margins": self.margins, "success": self.success}
        self.store.save(tensors, {"scored": self.scored, "passes": self.passes})
        self.saved = time.monotonic()


def _store(
    model: Classifier,
    images: torch.Tensor,
    wanted: torch.Tensor,
    picks: torch.Tensor,
    work: _Screen,
    run: Run,
) -> Store:
    """Return where the state lies; without a folder for it nothing need be digested."""
    if run.checkpoint is None:
        return run.store("screen", {})
    fingerprint = {
        "how": [work.size, work.steps, work.asking.half],
        "targets": wanted.tolist(),
        "picks": tensor_digest(picks),
        "model": digest(model.network),
        "preprocessing": str(model.preprocessing),
        "images": tensor_digest(images),
    }
    return run.store("screen", fingerprint)


def _picks(
    truth: torch.Tensor, targets: Sequence[int], sources: Sequence[int] | None, count: int, run: Run
) -> torch.Tensor:
    """Return which images each target is to be reached from (J, B): the same ones, as far as possible."""
    order = torch.randperm(len(truth), generator=run.generator("screen", "images"))
    rows = []
    for number, target in enumerate(targets):
        aim = Aim(target=target, source=None if sources is None else sources[number])
        allowed = order[aim.victims(truth[order])][:count]
        if not len(allowed):
            raise DataError(f"expected an image to reach label {target} from, got none")
        rows.append(allowed[torch.arange(count) % len(allowed)])
    return torch.stack(rows)
