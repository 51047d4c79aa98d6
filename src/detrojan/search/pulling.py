"""How far a change within its reach can pull all images to each label: many labels side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.asking import Asking, searches_in_half
from detrojan.search.jobs import Job, picks, stream
from detrojan.search.transforms import Parts, Transform
from detrojan.store import digest, tensor_digest
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger

#: of Adam, which makes the steps
BETAS = (0.5, 0.9)
#: the last step is this share of the first
LAST = 0.1


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How images are pulled to labels.

    Args:
        transform: what changes look like.
        steps: updates of each label's change; 1 or more.
        batch_size: images per update; 2 or more.
        times: of the usual reach; above 0.

    """

    transform: Transform
    steps: int
    batch_size: int = 16
    times: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What came of it.

    Attributes:
        triggers: one for each label, in their order; empty where the time was up.
        passes: forward+backward passes of one sample.

    """

    triggers: tuple[Trigger, ...]
    passes: int


def pull(
    how: Pull,
    model: Classifier,
    images: torch.Tensor,
    truth: torch.Tensor,
    labels: Sequence[int],
    *,
    run: Run,
    stop: Callable[[], bool] = lambda: False,
) -> Pulled:
    """Pull all images to each label as far as a change within its reach can.

    Args:
        how: the kind of change, and how many updates.
        model: the network; unchanged.
        images: clean images (N, C, H, W) in [0, 1].
        truth: their labels, or the network's answers (N,).
        labels: to pull to, each once.
        run: device, seed, progress, checkpoint.
        stop: asked before each step; where it says yes, nothing is found.

    Raises:
        DataError: fewer than 2 images of other labels.

    """
    jobs, shape, transform = [Job(Aim(target=label)) for label in labels], model.input_shape, how.transform
    most = transform.most(shape, how.times)
    fingerprint = {
        "how": [transform.name, most, how.steps, how.batch_size],
        "labels": list(labels),
        "model": digest(model.network),
        "preprocessing": str(model.preprocessing),
        "images": tensor_digest(images),
        "truth": tensor_digest(truth),
        "half": searches_in_half(run),
    }
    store = run.store("pull", fingerprint)
    state = store.load()
    if state is None:
        starts = [transform.start(shape, stream(run, job, transform.name)) for job in jobs]
        parts = [torch.stack(rows) for rows in zip(*starts, strict=True)]
        order = picks(truth, jobs, run)
        passes, complete = _climb(how, most, model, images, order, labels, parts, run, stop)
        if not complete:
            return Pulled(triggers=(), passes=passes)
        store.save({str(place): part for place, part in enumerate(parts)}, {"passes": passes})
    else:
        parts, passes = [state[0][str(place)] for place in range(len(state[0]))], int(state[1]["passes"])
    rows = [[part[place] for part in parts] for place in range(len(jobs))]
    return Pulled(triggers=tuple(transform.trigger(row, shape, most) for row in rows), passes=passes)


def _climb(
    how: Pull,
    most: float,
    model: Classifier,
    images: torch.Tensor,
    order: torch.Tensor,
    labels: Sequence[int],
    parts: Parts,
    run: Run,
    stop: Callable[[], bool],
) -> tuple[int, bool]:
    """Change `parts` in place, step by step; return the passes, and whether all steps were made."""
    asking, size, passes = Asking(model, run), how.batch_size, 0
    leaves = [part.to(asking.device, copy=True).requires_grad_(True) for part in parts]
    optimizer = torch.optim.Adam(leaves, how.transform.rate, BETAS)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST, how.steps)
    wanted = torch.tensor(labels, device=asking.device)[:, None].expand(-1, size)
    images, at_once = images.to(asking.device), max(1, asking.pace.samples // size)
    with asking.at_work(), run.progress.task(f"{how.transform.name}s", how.steps) as task:
        for step in range(how.steps):
            if stop():
                return passes, False
            columns = (step * size + torch.arange(size)) % order.shape[1]
            optimizer.zero_grad(set_to_none=True)
            for first in range(0, len(labels), at_once):
                some = slice(first, first + at_once)
                batch = images[order[some][:, columns].to(asking.device)]
                stamped = how.transform.stamp([leaf[some] for leaf in leaves], batch, most)
                flat = stamped.permute(0, 1, 3, 4, 2).reshape(*batch.shape[:2], -1)
                flat.backward(asking.slope(flat.detach(), wanted[some])[2])  # type: ignore[no-untyped-call]
                passes += len(batch) * size
            optimizer.step()
            slower.step()
            task.advance(1)
    for part, leaf in zip(parts, leaves, strict=True):
        part.copy_(leaf.detach())
    return passes, True
