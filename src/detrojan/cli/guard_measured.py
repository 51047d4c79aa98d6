"""What `detrojan guard measure` tells: the figures, in JSON and in words, and what makes them doubtful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from detrojan.guards.base import Calibrated
    from detrojan.report.guard_page import Measured


def measured_values(
    guard: Calibrated, scores: dict[str, torch.Tensor], stamped: torch.Tensor, target: int | None
) -> tuple[dict[str, Any], Measured]:
    """Return the figures of a measurement as JSON has them, and as the page does."""
    from dataclasses import asdict  # noqa: PLC0415

    from detrojan.metrics.detection import detection  # noqa: PLC0415
    from detrojan.report.guard_page import Measured  # noqa: PLC0415

    found = detection(scores["clean"], scores["stamped"], guard.threshold)
    values: dict[str, Any] = {
        "schema": "detrojan.guard-measure/1",
        "guard": guard.method.name,
        "boundary": guard.threshold * guard.sign,
        **asdict(found),
    }
    if target is None:
        return values, Measured(detection=found)
    won = guard.model.answers(stamped) == target
    alone = float(won.double().mean())
    guarded = float((won & ~guard.suspicious(scores["stamped"])).double().mean())
    values |= {"attack_success": alone, "attack_success_guarded": guarded}
    return values, Measured(detection=found, target=target, success=alone, success_guarded=guarded)


def seen_before(guard: Calibrated, images: torch.Tensor) -> list[str]:
    """Return a warning where some of the images are those that the guard mixes its inputs with."""
    from detrojan.guards.strip import CalibratedStrip  # noqa: PLC0415

    if not isinstance(guard, CalibratedStrip):
        return []
    known = {image.numpy().tobytes() for image in guard.overlays.cpu()}
    again = sum(image.numpy().tobytes() in known for image in images.cpu())
    if not again:
        return []
    return [
        (
            f"{again} of {len(images):,} clean images are among those that set the guard up: its FRR "
            "on them is about the one that was asked for, whatever it is on others; take other images"
        )
    ]


def overflows(guard: Calibrated, scores: dict[str, torch.Tensor]) -> list[str]:
    """Return a warning for each group of images with scores that are no finite number."""
    lost = {name: int((~values.isfinite()).sum()) for name, values in scores.items()}
    return [
        f"{count:,} of {len(scores[name]):,} {name} images have no finite {guard.statistic}, the network's "
        "answers to their copies overflow: they count as called backdoored"
        for name, count in lost.items()
        if count
    ]


def measured_text(values: dict[str, Any]) -> str:
    """Return the figures in words."""
    from rich.markup import escape  # noqa: PLC0415

    from detrojan.words import percent  # noqa: PLC0415

    lines = [
        f"FRR {percent(values['frr'])} of {values['clean']:,} clean images are called backdoored.",
        f"FAR {percent(values['far'])} of {values['bad']:,} stamped images are let through.",
        f"AUROC {values['auroc']:.4f}",
    ]
    if "attack_success" in values:
        lines.append(
            f"Attack success {percent(values['attack_success'])}, "
            f"with the guard {percent(values['attack_success_guarded'])}."
        )
    lines += [f"Warning: {text}" for text in values["warnings"]]
    return "\n".join(escape(line) for line in lines)
