"""Trains a network like another one from the start, on its answers: what it knows, without what it hides."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import ModelError
from detrojan.learning.augmentation import Augment, blended, pasted, recoloured, shift
from detrojan.learning.fitting import Epoch, Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run

#: images are shifted by up to so many pixels in both directions
SHIFT = 3
BATCH = 48
RATE = 2e-3


def relearnt(
    teacher: Classifier,
    images: torch.Tensor,
    *,
    updates: int,
    run: Run,
    title: str = "reference network",
    after_epoch: Callable[[Epoch], None] | None = None,
) -> Classifier:
    """Return a network of the same layers that has learned from the start what `teacher` answers.

    It sees clean images alone, each time shifted, recoloured, blended and with parts of others, and is
    taught the teacher's answers to these very images. So it learns the features that images show, and no
    trigger. Few images teach a large network little: whoever uses it sees to what it knows.

    Reference: the teacher's answers to changed images are those of Beyer et al., Knowledge Distillation: A
    Good Teacher Is Patient and Consistent, CVPR 2022.

    Args:
        teacher: unchanged; of weights that can be trained.
        images: clean images (N, C, H, W) in [0, 1].
        updates: of 48 images each, at the least; 1 or more.
        run: device, seed, progress, checkpoint. Its seed tells the start.
        title: what the progress shows.
        after_epoch: called with each epoch's figures; what it raises ends the training.

    Raises:
        ModelError: the network has no weights to train.

    """
    student = started_anew(teacher, run)
    size = min(BATCH, len(images))
    how = Fitting(
        epochs=math.ceil(updates / max(1, len(images) // size)),
        batch_size=size,
        learning_rate=RATE,
        optimizer="adam",
        weight_decay=0.0,
    )
    vary, loss = _answers_of(teacher, run)
    fit(
        student,
        Dataset(images, teacher.answers(images)),
        how,
        run=run,
        title=title,
        augment=vary,
        loss=loss,
        after_epoch=after_epoch,
        identity={"teacher": teacher, "preprocessing": str(teacher.preprocessing), "shift": SHIFT},
    )
    return student


def started_anew(model: Classifier, run: Run) -> Classifier:
    """Return a copy with new weights.

    Layers that know how they begin do so. Where no layer knows, the trained numbers are shuffled: their
    scale stays, and what they say is lost.

    Raises:
        ModelError: the network has no weights to train.

    """
    copy = model.copy()
    trained = [one for one in copy.network.parameters() if one.is_floating_point()]
    if not trained:
        raise ModelError("expected a network with weights that can be trained, got one without any")
    begun: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.derived_seed("start"))
        for module in copy.network.modules():
            begin = getattr(module, "reset_parameters", None)
            if callable(begin):
                begin()
                begun |= {id(one) for one in module.parameters(recurse=False)}
        for parameter in trained:
            parameter.requires_grad_(True)
            if id(parameter) not in begun:
                _shuffle(parameter, run.generator("shuffle", parameter.numel()))
    return copy


@torch.no_grad()
def _shuffle(parameter: nn.Parameter, generator: torch.Generator) -> None:
    numbers = parameter.flatten()
    order = torch.randperm(len(numbers), generator=generator).to(numbers.device)
    parameter.copy_(numbers[order].view_as(parameter))


def _answers_of(teacher: Classifier, run: Run) -> tuple[Augment, Loss]:
    """Return what changes each batch's images, and the loss against the teacher's answers to them."""
    teacher = teacher.copy().to(run.device)
    teacher.network.eval()
    vary = pasted(blended(recoloured(shift(SHIFT))))
    seen: list[torch.Tensor] = []

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(vary(images, generator))
        return seen[-1]

    def loss(logits: torch.Tensor, _labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            wanted = teacher.logits(seen.pop().to(logits.device)).float().softmax(1)
        return -(wanted.clone() * logits.log_softmax(1)).sum(1).mean()

    return augment, loss
