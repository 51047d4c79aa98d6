"""Writes what the demonstration found: one page that tells the whole story, and the JSON of every part."""

from __future__ import annotations

from pathlib import Path

import torch
from markupsafe import Markup

from detrojan.files import save_bytes, save_text
from detrojan.jobs.demo import VICTIM, Networks, Story
from detrojan.jobs.triggers import save_trigger, save_triggers
from detrojan.report.html_page import Section, render_page, section
from detrojan.report.pictures import data_uri, pictures_of, png, stamped_rows
from detrojan.report.records.demo import DemoRecord, judged_rows, judgement, planted_sentence
from detrojan.triggers.aim import Aim


def write_folder(out: Path, story: Story, networks: Networks, told: DemoRecord) -> None:
    """Write the page, the JSON of every part, the triggers, and a sign without and with the sticker.

    Raises:
        InputError: a file cannot be written.

    """
    files = save_triggers(story.result.flagged, out / "scan_triggers", out / "scan.json")
    findings = [
        finding.model_copy(update={"trigger": files.get(finding.label)}) for finding in story.suspect.findings
    ]
    story.suspect.model_copy(update={"findings": findings}).save(out / "scan.json")
    story.twin.save(out / "scan_twin.json")
    if story.repair is not None:
        story.repair.save(out / "repair.json")
    save_trigger(networks.trigger, out / "true_trigger.safetensors")
    plain = _signs(networks)[:1]
    for name, signs in (("stop", plain), ("stop_with_sticker", networks.trigger.stamp(plain))):
        save_bytes(out / f"{name}.png", png(signs[0], side=plain.shape[-1]))
    told.save(out / "report.json")
    save_text(out / "report.html", page(story, networks, told))


def page(story: Story, networks: Networks, told: DemoRecord) -> str:
    """Return the one page that tells the whole story."""
    signs = _signs(networks)
    drawn = pictures_of(story.result.flagged, signs, model=networks.suspect)
    version = story.suspect.run.versions.get("detrojan", "")
    parts = [
        Section("What was planted", planted_sentence(told, VICTIM), _planted(told, networks, signs), version),
        section(story.suspect, drawn, title="Scan of network A, the backdoored one"),
        section(story.twin, title="Scan of network B, its clean twin"),
    ]
    if story.repair is not None:
        parts.append(section(story.repair, drawn, title="Repair of network A"))
    parts.append(
        Section(
            "Was it right?",
            judgement(told),
            _judged(told),
            version,
            "backdoored" if told.failures else "good",
        )
    )
    intro = (
        "Two networks were trained on drawn traffic signs, one of them on poisoned images. Both were "
        "scanned without knowing which is which; the flagged one was repaired and scanned again. The true "
        "trigger was used for planting and, in the last part, for judging."
    )
    return render_page("A sticker on a stop sign", parts, intro=intro)


def _signs(networks: Networks) -> torch.Tensor:
    """Return six held-out images, stop signs first."""
    labels = networks.held_out.require_labels("the pictures")
    stop = (labels == networks.suspect.class_names.index(VICTIM)).nonzero().flatten()[:3]
    others = Aim(target=networks.target).moved(labels)[:3]
    return networks.held_out.images[torch.cat([stop, others])]


def _planted(told: DemoRecord, networks: Networks, signs: torch.Tensor) -> Markup:
    sheet = data_uri(stamped_rows(signs, networks.trigger.stamp(signs)))
    names = [networks.suspect.class_name(label) for label in networks.suspect.answers(signs).tolist()]
    after = networks.suspect.answers(networks.trigger.stamp(signs)).tolist()
    return Markup(
        '<p>{said}</p><div class="parts"><figure class="long"><img src="{sheet}" '
        'alt="Six signs, and below them the same signs with the yellow sticker">'
        "<figcaption>Above, as drawn; network A says: {names}. Below, with the true sticker; "
        "it says: {after}.</figcaption></figure></div>"
    ).format(
        said=planted_sentence(told, VICTIM),
        sheet=sheet,
        names=", ".join(names),
        after=", ".join(networks.suspect.class_name(label) for label in after),
    )


def _judged(told: DemoRecord) -> Markup:
    rows = Markup().join(
        Markup('<tr><th scope="row">{}</th><td class="n">{}</td><td class="n">{}</td></tr>').format(*row)
        for row in judged_rows(told)
    )
    table = Markup(
        '<div class="scroll"><table><thead><tr><th>On held-out signs, with the true trigger</th>'
        '<th class="n">before</th><th class="n">after</th></tr></thead><tbody>{}</tbody></table></div>'
    )
    return Markup("<p>{}</p>{}").format(judgement(told), table.format(rows) if rows else "")
