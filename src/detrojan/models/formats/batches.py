"""Asks a network that takes a fixed number of images."""

from __future__ import annotations

from collections.abc import Callable

import torch


def in_turn(
    ask: Callable[[torch.Tensor], list[torch.Tensor]], images: torch.Tensor, count: int
) -> list[torch.Tensor]:
    """Return what `ask` answers to images (N, ...), asked `count` at a time; missing ones are filled up."""
    parts = []
    for start in range(0, len(images), count):
        part = images[start : start + count]
        held = len(part)
        if held < count:
            part = torch.cat([part, part[-1:].expand(count - held, *part.shape[1:])])
        parts.append([answer[:held] for answer in ask(part)])
    return [torch.cat(answers) for answers in zip(*parts, strict=True)]
