"""Triggers and attacks as a plan describes them, for images of a known shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.attacks.base import Attack
from detrojan.benchmark.materials import Paths
from detrojan.benchmark.parts import AttackPlan, BackdoorPlan, TriggerPlan
from detrojan.benchmark.settings import method_of
from detrojan.data.decoding_apart import read_with_opacity
from detrojan.data.formats.npz_arrays import read_arrays
from detrojan.errors import DataError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

Shape = tuple[int, int, int]


def attack_of(
    plan: AttackPlan, shape: Shape, *, folder: str, paths: Paths, twin: Classifier | None = None
) -> Attack:
    """Return the attack that a plan describes.

    Args:
        plan: names the method.
        shape: (C, H, W) of the images.
        folder: where the plan lies; its files are named from there.
        paths: files given from outside.
        twin: the clean twin, where the attack is to use it.

    Raises:
        OptionError: hyper-parameters that make no sense.
        DataError: a trigger that cannot be read or does not fit.

    """
    attack = method_of("attacks", plan.method, plan.set)
    assert isinstance(attack, Attack)
    more: dict[str, Any] = {}
    if plan.trigger is not None:
        more["trigger"] = trigger_of(plan.trigger, shape, folder=folder, paths=paths)
    if plan.backdoors:
        more["backdoors"] = backdoors_of(plan.backdoors, shape, folder=folder, paths=paths)
    if plan.surrogate:
        assert twin is not None
        more["surrogate"] = twin
    return replace(attack, **more)


def backdoors_of(
    plans: tuple[BackdoorPlan, ...], shape: Shape, *, folder: str, paths: Paths
) -> tuple[Backdoor, ...]:
    """Return several triggers with what they ask for.

    Raises:
        DataError: a trigger that cannot be read or does not fit.

    """
    return tuple(
        Backdoor(
            trigger=trigger_of(plan.trigger, shape, folder=folder, paths=paths),
            target=None if plan.target < 0 else plan.target,
            source=plan.source,
        )
        for plan in plans
    )


def trigger_of(plan: TriggerPlan, shape: Shape, *, folder: str, paths: Paths) -> Trigger:
    """Return one trigger.

    Raises:
        DataError: it cannot be read, or does not fit the images.

    """
    if plan.corner:
        return PatchTrigger.corner(
            shape,
            size=(plan.size or (3, 3))[0],
            where=plan.corner,
            margin=plan.margin,
            pixels=plan.fill,
            alpha=plan.alpha,
        )
    if plan.file:
        return Trigger.load(Path(folder) / plan.file)
    if plan.pixels:
        grey = torch.tensor(plan.pixels)
        rgba = torch.cat([grey.expand(shape[0], *grey.shape), torch.ones(1, *grey.shape)])
    elif plan.picture:
        path = Path(folder) / plan.picture
        if not path.is_file():
            raise DataError(f"there is no picture {path}")
        rgba = torch.from_numpy(read_with_opacity(path, shape[0], plan.size))
    else:
        rgba = _from_arrays(plan, shape[0], paths)
    rgba[-1] *= plan.alpha
    top, left = (place if place >= 0 else shape[axis + 1] + place for axis, place in enumerate(plan.at))
    return PatchTrigger.picture_patch(rgba.float(), shape, top=top, left=left)


def _from_arrays(plan: TriggerPlan, channels: int, paths: Paths) -> torch.Tensor:
    if plan.npz not in paths:
        raise OptionError(f"expected --data {plan.npz}=FILE: the plan takes a trigger from it")
    if channels != 3:
        raise DataError(f"expected colour images for a trigger of colour, got {channels} channels")
    path = paths[plan.npz]
    names = (plan.rgba,) if plan.rgba else (plan.mask, plan.rgb)
    arrays = read_arrays(Path(path), names)
    if plan.rgba:
        (rgba,) = arrays
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
            raise DataError(f"{path}: expected {plan.rgba} (h, w, 4) uint8, got {rgba.dtype} {rgba.shape}")
        return torch.from_numpy(rgba.transpose(2, 0, 1).astype(np.float32) / 255)
    masks, colour = arrays
    masks = masks if masks.ndim == 3 else masks[None]
    if masks.ndim != 3 or masks.dtype != np.bool_ or plan.index >= len(masks) or colour.shape != (3,):
        raise DataError(
            f"{path}: expected {plan.mask} (n, h, w) bool with n above {plan.index} and {plan.rgb} (3,), "
            f"got {masks.dtype} {masks.shape} and {colour.shape}"
        )
    mask = torch.from_numpy(masks[plan.index].astype(np.float32))
    flat = torch.from_numpy(colour.astype(np.float32) / 255)[:, None, None]
    return torch.cat([flat.expand(3, *mask.shape), mask[None]]).clone()
