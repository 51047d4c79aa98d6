"""Writes what `detrojan attack` made: networks, triggers, poisoned data and their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrojan.errors import InputError

if TYPE_CHECKING:
    from detrojan.attacks.base import Poisoned
    from detrojan.data.dataset import Dataset
    from detrojan.jobs.attacking import Attacked, Job
    from detrojan.models.classifier import Classifier


#: a trigger that works on a smaller share of the held-out images was not learned
PLANTED = 0.5
#: the files that are written to the folder
WRITES = (
    *("attack.json", "model.safetensors", "clean.safetensors", "poisoned.npz", "poisoned.png"),
    *("covers.png", "stamped*.png", "trigger_*.safetensors", "trigger_*.png"),
)


def write_folder(out: Path, job: Job, attacked: Attacked, twin: Classifier | None) -> None:
    """Write the networks, the triggers with their pictures, and the poisoned data.

    Raises:
        InputError: a file cannot be written.

    """
    from detrojan.cli.outputs import save_trigger  # noqa: PLC0415
    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415
    from detrojan.report.pictures import png, stamped_rows  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if attacked.poisoned is not None:
        _write_poisoned(out, attacked.poisoned, job.train)
    if attacked.model is not None:
        save_model(attacked.model, out / "model.safetensors")
    if twin is not None:
        save_model(twin, out / "clean.safetensors")
    for number, backdoor in enumerate(attacked.backdoors):
        save_trigger(backdoor.trigger, out / f"trigger_{number}.safetensors")
        save_bytes(out / f"trigger_{number}.png", png(backdoor.trigger.picture()))
        shown = job.test.images[backdoor.aim.victims(job.test.require_labels("stamping"))][:6]
        name = "stamped.png" if len(attacked.backdoors) == 1 else f"stamped_{number}.png"
        save_bytes(out / name, stamped_rows(shown, backdoor.trigger.stamp(shown)))


def _write_poisoned(out: Path, poisoned: Poisoned, before: Dataset) -> None:
    import numpy as np  # noqa: PLC0415

    from detrojan.files import save_bytes  # noqa: PLC0415
    from detrojan.report.pictures import stamped_rows  # noqa: PLC0415

    data = poisoned.data
    try:
        np.savez_compressed(
            out / "poisoned.npz",
            images=(data.images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
            labels=data.require_labels("poisoning").numpy(),
            indices=poisoned.indices.numpy(),
            covers=poisoned.covers.numpy(),
        )
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    for name, places in (("poisoned.png", poisoned.indices[:6]), ("covers.png", poisoned.covers[:6])):
        if len(places):
            save_bytes(out / name, stamped_rows(before.images[places], data.images[places]))


def doubts(values: dict[str, Any]) -> list[str]:
    """Return what to say of triggers that the network has not learned: no defence can be tried on those."""
    from detrojan.words import percent  # noqa: PLC0415

    return [
        (
            f"trigger {number} works on {percent(entry['attack_success'])} of the held-out images only: the "
            "network has not learned it; a larger or stronger trigger, a higher --poison-rate, more --epochs "
            "or another --net may help"
        )
        for number, entry in enumerate(values["backdoors"])
        if entry["attack_success"] is not None and entry["attack_success"] < PLANTED
    ]


def text_of(values: dict[str, Any], out: Path) -> str:
    """Return the record of an attack as a person reads it."""
    from rich.markup import escape  # noqa: PLC0415

    from detrojan.words import percent  # noqa: PLC0415

    lines = []
    if values["clean_accuracy"] is not None:
        accuracy = percent(values["clean_accuracy"])
        lines.append(f"Clean accuracy {accuracy} on {values['held_out']:,} held-out images.")
    if values["clean_accuracy_of_clean_twin"] is not None:
        lines.append(f"Clean twin: {percent(values['clean_accuracy_of_clean_twin'])}.")
    for number, entry in enumerate(values["backdoors"]):
        target = "any but the truth" if entry["target"] is None else f"label {entry['target']}"
        if entry["offset"]:
            target = f"the true label plus {entry['offset']}"
        done = "trained in" if entry["poisoned"] is None else f"{entry['poisoned']:,} images poisoned"
        success = entry["attack_success"]
        measured = "" if success is None else f": attack success {percent(success)}"
        lines.append(f"Trigger {number} leads to {target}{measured} ({done}).")
    if values["covers"]:
        lines.append(f"{values['covers']:,} more images were changed and keep their label.")
    lines += [f"Warning: {text}" for text in values["warnings"]]
    lines.append(f"Written to {out}")
    return "\n".join(escape(line) for line in lines)
