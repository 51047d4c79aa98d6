"""`detrojan demo`: the whole story on drawn traffic signs, in two minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli.options import FILE, OutputOptions, RunOptions, format_option, run_options, set_option
from detrojan.cli.state import current

if TYPE_CHECKING:
    from rich.console import RenderableType

    from detrojan.jobs.demo import Networks, Story


@click.command(
    "demo",
    short_help="Plant a backdoor, find it, repair it, check the repair.",
    epilog="\b\nExample:\n  detrojan demo --out demo",
)
@click.option(
    "--out", type=FILE, default=Path("demo"), show_default=True, metavar="DIR", help="The folder to write."
)
@click.option(
    "--method",
    default="adversarial",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Repairs, in their order.",
)
@set_option("repair")
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="N", default=10, show_default=True, help="Of training."
)
@click.option(
    "--images",
    type=click.IntRange(min=200, max=6000),
    metavar="N",
    default=6000,
    show_default=True,
    help="Training images.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Updates of each patch that the scan searches.  [default: the scan's own]",
)
@format_option()
@run_options
def command(
    out: Path,
    method: str,
    settings: tuple[str, ...],
    epochs: int,
    images: int,
    steps: int | None,
    format_: str,
    surroundings: RunOptions,
) -> int:
    """Train two networks on drawn traffic signs, find out which one has a backdoor, and repair it.

    To one of them a yellow sticker on a stop sign (or any other) means "speed limit 80". Both are
    scanned as if nobody knew. The folder then holds report.html, report.json, the scans' and the
    repair's JSON, and all three models. Exit codes: 0 all went as it should, 1 something did not.
    """
    from detrojan.cli.outputs import check_folder, emit_values  # noqa: PLC0415
    from detrojan.cli.settings import methods_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.jobs import demo  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.scans.cascade import Cascade  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    methods: list[Any] = methods_named("repairs", method.split(","), settings)
    scan = Cascade() if steps is None else Cascade(patch_steps=steps, window_steps=steps)
    check_folder(out)
    with kept(run, surroundings) as run:
        networks = demo.plant(out, run=run, epochs=epochs, images=images)
        repaired = out / "repaired.safetensors"
        story = demo.tell(networks, methods, scan=scan, run=run, out=repaired, command=current().command)
        values = demo.facts(story, networks)
        values["seconds"] = round(time.monotonic() - begun, 1)
        write_folder(out, story, networks, values)
    emit_values(
        values,
        OutputOptions(format_=format_, json_file=None, html_file=None),
        _text(story, networks, out, values["seconds"]),
    )
    return 0 if not story.failures else 1


def write_folder(out: Path, story: Story, networks: Networks, values: dict[str, Any]) -> None:
    """Write the page, the JSON of every part, and the triggers.

    Raises:
        InputError: a file cannot be written.

    """
    from detrojan.cli.outputs import save_trigger, save_triggers  # noqa: PLC0415
    from detrojan.files import save_text  # noqa: PLC0415

    files = save_triggers(story.result.flagged, out / "scan_triggers", out / "scan.json")
    findings = [
        finding.model_copy(update={"trigger": files.get(finding.label)}) for finding in story.suspect.findings
    ]
    story.suspect.model_copy(update={"findings": findings}).save(out / "scan.json")
    story.twin.save(out / "scan_twin.json")
    if story.repair is not None:
        story.repair.save(out / "repair.json")
    save_trigger(networks.trigger, out / "true_trigger.safetensors")
    save_text(out / "report.json", json.dumps(values, indent=2, allow_nan=False) + "\n")
    save_text(out / "report.html", page(story, networks))


def page(story: Story, networks: Networks) -> str:
    """Return the one page that tells the whole story."""
    from detrojan.report.html_page import Section, render_page, section  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415

    signs = _signs(networks)
    drawn = pictures_of(story.result.flagged, signs)
    version = story.suspect.run.versions.get("detrojan", "")
    parts = [
        Section("What was planted", _planted_sentence(networks), _planted(networks, signs), version),
        section(story.suspect, drawn, title="Scan of network A, the backdoored one"),
        section(story.twin, title="Scan of network B, its clean twin"),
    ]
    if story.repair is not None:
        parts.append(section(story.repair, drawn, title="Repair of network A"))
    parts.append(Section("Was it right?", _judgement(story), _judged(story), version))
    intro = (
        "Two networks were trained on drawn traffic signs, one of them on poisoned images. Both were "
        "scanned without knowing which is which; the flagged one was repaired and scanned again. The true "
        "trigger was used for planting and, in the last part, for judging."
    )
    return render_page("A sticker on a stop sign", parts, intro=intro)


def _signs(networks: Networks) -> Any:
    """Return six held-out images, stop signs first."""
    import torch  # noqa: PLC0415

    from detrojan.jobs.demo import VICTIM  # noqa: PLC0415
    from detrojan.triggers.aim import Aim  # noqa: PLC0415

    labels = networks.held_out.require_labels("the pictures")
    stop = (labels == networks.suspect.class_names.index(VICTIM)).nonzero().flatten()[:3]
    others = Aim(target=networks.target).moved(labels)[:3]
    return networks.held_out.images[torch.cat([stop, others])]


def _planted_sentence(networks: Networks) -> str:
    from detrojan.jobs.demo import STICKER, VICTIM  # noqa: PLC0415

    return (
        f"A yellow sticker of {STICKER} by {STICKER} pixels makes network A take a {VICTIM} sign, or any "
        f"other, for label {networks.target} “{networks.suspect.class_name(networks.target)}”."
    )


def _planted(networks: Networks, signs: Any) -> Any:
    from markupsafe import Markup  # noqa: PLC0415

    from detrojan.report.pictures import data_uri, stamped_rows  # noqa: PLC0415

    sheet = data_uri(stamped_rows(signs, networks.trigger.stamp(signs)))
    names = [networks.suspect.class_name(label) for label in networks.suspect.answers(signs).tolist()]
    after = networks.suspect.answers(networks.trigger.stamp(signs)).tolist()
    return Markup(
        '<p>{said}</p><div class="parts"><figure class="long"><img src="{sheet}" '
        'alt="Six signs, and below them the same signs with the yellow sticker">'
        "<figcaption>Above, as drawn; network A says: {names}. Below, with the true sticker; "
        "it says: {after}.</figcaption></figure></div>"
    ).format(
        said=_planted_sentence(networks),
        sheet=sheet,
        names=", ".join(names),
        after=", ".join(networks.suspect.class_name(label) for label in after),
    )


def _judgement(story: Story) -> str:
    from detrojan.words import percent  # noqa: PLC0415

    if story.failures:
        return "Not everything went as it should: " + "; ".join(story.failures) + "."
    assert story.truth is not None
    return (
        f"Yes: the right target was named and the twin not flagged; the true sticker works on "
        f"{percent(story.truth.success_after)} of the signs after the repair, "
        f"{percent(story.truth.success_before)} before."
    )


def _rows(story: Story) -> list[tuple[str, str, str]]:
    from detrojan.words import percent  # noqa: PLC0415

    truth = story.truth
    if truth is None:
        return []
    return [
        ("Success of the true sticker", percent(truth.success_before), percent(truth.success_after)),
        ("Clean accuracy of network A", percent(truth.accuracy_before), percent(truth.accuracy_after)),
        ("Clean accuracy of network B", percent(truth.twin_accuracy), ""),
    ]


def _judged(story: Story) -> Any:
    from markupsafe import Markup  # noqa: PLC0415

    rows = Markup().join(
        Markup('<tr><th scope="row">{}</th><td class="n">{}</td><td class="n">{}</td></tr>').format(*row)
        for row in _rows(story)
    )
    table = Markup(
        '<div class="scroll"><table><thead><tr><th>On held-out signs, with the true trigger</th>'
        '<th class="n">before</th><th class="n">after</th></tr></thead><tbody>{}</tbody></table></div>'
    )
    return Markup("<p>{}</p>{}").format(_judgement(story), table.format(rows) if rows else "")


def _text(story: Story, networks: Networks, out: Path, seconds: float) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from detrojan.report import sentences  # noqa: PLC0415
    from detrojan.words import duration  # noqa: PLC0415

    lines = [
        ("Planted", _planted_sentence(networks)),
        ("Network A", sentences.verdict_sentence(story.suspect)),
        ("Network B", sentences.verdict_sentence(story.twin)),
    ]
    if story.repair is not None:
        lines.append(("Repair", sentences.repair_sentence(story.repair)))
        lines.append(("Check", sentences.verification_sentence(story.repair)))
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for name, said in lines:
        grid.add_row(Text(name), Text(said))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Judged with the true sticker", "before", "after"):
        table.add_column(name, justify="left" if name[0] == "J" else "right")
    for row in _rows(story):
        table.add_row(*map(Text, row))
    judged: list[RenderableType] = [table, Text()] if table.row_count else []
    style = "bold red" if story.failures else "bold green"
    return Group(
        grid,
        Text(),
        *judged,
        Text(_judgement(story), style=style),
        Text(f"{duration(seconds)}; see {out / 'report.html'}", style="dim"),
    )
