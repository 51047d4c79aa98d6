"""The page of a training on suspect data: curves, what was isolated, and what came out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from detrojan.data.dataset import Dataset
from detrojan.judging.outcome import REPAIRED
from detrojan.records import plain
from detrojan.report.html_page import about_run, filled, render_page
from detrojan.report.pictures import contact_sheet, data_uri
from detrojan.report.repair_page import step_values
from detrojan.report.schema import AdviceFacts, RunFacts, Step
from detrojan.trainers.base import Trained
from detrojan.words import duration, file_name, label_name, percent, plural, printable, sentence

#: isolated samples that are drawn, and labels in their table
DRAWN, LABELS = 36, 30
_UNSAID = (
    "A sample that was not isolated may be poisoned all the same.",
    "Attack success is measured with triggers that are known. Scan the network before it is used.",
)


def train_page(
    values: dict[str, Any],
    trained: Trained,
    data: Dataset,
    *,
    record: Sequence[tuple[str, str]],
    facts: RunFacts,
    output: str,
) -> str:
    """Return one self-contained page.

    Args:
        values: the training's record, as `detrojan train` writes it.
        trained: what came out.
        data: labelled, what was trained on.
        record: what is in the table of inputs and settings.
        facts: of the run.
        output: where the network was written.

    """
    net, method, held = printable(values["net"], 60), printable(values["method"], 60), len(trained.isolated)
    accuracy = values["clean_accuracy"]
    told = "" if accuracy is None else f", and is right about {percent(accuracy)} of held-out images"
    success = values.get("attack_success")
    works = success is not None and success >= REPAIRED
    if works:
        told += f"; the known trigger still works on {percent(success)}"
    mood = "backdoored" if works else "inconclusive" if values["warnings"] else "plain"
    if mood == "plain" and success is not None:
        mood = "good"
    body: dict[str, Any] = {"sheet_uri": "", "shown": 0, "labels": [], "isolated": "", "more": ""}
    if held:
        body = _isolated(trained, data)
    part = filled(
        "train.html.jinja",
        title="Result",
        mood=mood,
        said=f"The network {net} was trained by {method} on {plural(len(data), 'sample')}{told}.",
        version=facts.versions.get("detrojan", ""),
        output=f"Written to {printable(file_name(output))}.",
        advice=_advice(values, data, output, works=works),
        warnings=[sentence(printable(text, 600)) for text in values["warnings"]],
        tiles=_tiles(values, held, len(data)),
        steps=[step_values(Step.model_validate(plain(vars(step)))) for step in trained.steps],
        unsaid=_UNSAID,
        record=record,
        **body,
    )
    return render_page(f"Training of {net}", [part], about=about_run([], data.source, facts))


def _advice(values: dict[str, Any], data: Dataset, output: str, *, works: bool) -> list[AdviceFacts]:
    """Return what to do next, the most urgent first."""
    if works:
        first = "Do not deploy this network. Train again by another --method, or repair it."
    elif values["warnings"]:
        first = "Do not deploy this network before the warnings below are dealt with."
    else:
        first = "Look through the isolated samples: what is plainly stamped tells what the attacker did."
    model = str(PurePath(output) / "model.safetensors")
    words = ["detrojan", "scan", model, "--net", values["net"], "--data", data.source or "DATA"]
    scan = printable(shlex.join(words), 400)
    return [
        AdviceFacts(text=first),
        AdviceFacts(text="Scan the network with clean images before it is used:", command=scan),
        AdviceFacts(text="Keep the data in quarantine as evidence. Ask where they come from."),
    ]


def _tiles(values: dict[str, Any], held: int, count: int) -> list[tuple[str, str, str]]:
    tiles = [
        ("Clean accuracy", values["clean_accuracy"], f"on {values['held_out']:,} held-out images"),
        ("Attack success", values.get("attack_success"), "of the known trigger"),
        ("Training accuracy", values["training_accuracy"], "on the samples as labelled"),
    ]
    shown = [(name, percent(share), note) for name, share, note in tiles if share is not None]
    shown.append(("Isolated", f"{held:,}", f"{percent(held / count)} of the samples"))
    shown.append(("Time", duration(values["seconds"]), ""))
    return shown


def _isolated(trained: Trained, data: Dataset) -> dict[str, Any]:
    """Return the pictures of isolated samples, and how many of each label there are."""
    held = trained.isolated
    labels = data.require_labels("training")
    every, those = labels.bincount().tolist(), labels[held].bincount(minlength=int(labels.max()) + 1).tolist()
    order = sorted((label for label, count in enumerate(those) if count), key=lambda label: -those[label])
    names = data.class_names
    rows = [
        (
            label_name(label, names[label] if label < len(names) else ""),
            f"{every[label]:,}",
            f"{those[label]:,}",
            percent(those[label] / every[label]),
        )
        for label in order[:LABELS]
    ]
    shown = min(DRAWN, len(held))
    rest = len(order) - len(rows)
    most = max(those) / len(held)
    return {
        "sheet_uri": data_uri(contact_sheet(data.images[held[:DRAWN]], columns=9, side=48)),
        "shown": shown,
        "isolated": f"{plural(len(held), 'sample')} of {plural(len(order), 'label')} "
        f"{'was' if len(held) == 1 else 'were'} set aside, {percent(most)} of them labelled {rows[0][0]}.",
        "labels": rows,
        "more": f"{plural(rest, 'more label')} with fewer isolated samples." if rest else "",
    }
