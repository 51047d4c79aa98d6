"""`detrojan demo`: the whole story on drawn traffic signs, in two minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from detrojan.console.options import FILE, OutputOptions, RunOptions, format_option, run_options, set_option
from detrojan.console.state import current


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
    repair's JSON, all three models, and a sign with the sticker and without. Exit codes: 0 all went as
    it should, 1 something did not.
    """
    from detrojan.console.outputs import check_folder, emit_values  # noqa: PLC0415
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.jobs import demo  # noqa: PLC0415
    from detrojan.jobs.demo_page import write_folder  # noqa: PLC0415
    from detrojan.jobs.settings import methods_named  # noqa: PLC0415
    from detrojan.report.records.demo import demo_text  # noqa: PLC0415
    from detrojan.scans.cascade import Cascade  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    methods: list[Any] = methods_named("repairs", method.split(","), settings)
    scan = Cascade() if steps is None else Cascade(patch_steps=steps, window_steps=steps)
    check_folder(out)
    with kept(run, surroundings) as run:
        networks = demo.plant(out, run=run, epochs=epochs, images=images)
        repaired = out / "repaired.safetensors"
        story = demo.tell(networks, methods, scan=scan, run=run, out=repaired, command=current().command)
        record = demo.record(story, networks, time.monotonic() - begun)
        write_folder(out, story, networks, record)
    emit_values(
        record.values(),
        OutputOptions(format_=format_),
        demo_text(record, demo.VICTIM, str(out / "report.html")),
    )
    return 0 if record.passed else 1
