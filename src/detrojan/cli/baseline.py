"""`detrojan baseline`: files of known findings."""

from __future__ import annotations

from pathlib import Path

import click

from detrojan.console.options import FILE, debug_option


@click.group(
    "baseline",
    short_help="Accept known findings, so that only new ones count.",
    epilog="\b\nExample:\n"
    '  detrojan baseline write known.json scan.json --reason "a watermark of ours" --expires 2027-06-30\n'
    "  detrojan scan model.h5 --net deepid --data faces.npz --baseline known.json",
)
def command() -> None:
    """Keep a file of known findings, which scans and fleets take with --baseline."""


@command.command(
    "write",
    short_help="Accept the findings of scans.",
    epilog="\b\nExample:\n"
    '  detrojan baseline write known.json scan.json --reason "a watermark of ours" --expires 2027-06-30\n'
    "  detrojan baseline write known.json fleet/fleet.json --this-file-only",
)
@click.argument("baseline", metavar="FILE", type=FILE)
@click.argument("reports", metavar="JSON...", type=FILE, nargs=-1, required=True)
@click.option("--reason", default="", metavar="TEXT", help="Why they are accepted.")
@click.option("--expires", metavar="YYYY-MM-DD", help="The last day on which they are.  [default: no end]")
@click.option("--this-file-only", "pinned", is_flag=True, help="Not for other files of the model's name.")
@click.option("--inconclusive", is_flag=True, help="Accept inconclusive scans too.")
@debug_option
def write(
    baseline: Path,
    reports: tuple[Path, ...],
    reason: str,
    expires: str | None,
    pinned: bool,
    inconclusive: bool,
) -> int:
    """Add the findings of scans' JSON files, or of a fleet's, to FILE, which is made where it is not there.

    Entries that are there already stay as they are. FILE is JSON: reasons, dates and whole entries may be
    changed or removed by hand.
    """
    from detrojan.jobs.baselines import write_baseline  # noqa: PLC0415 - `--help` shall be fast

    new, there = write_baseline(
        baseline, reports, reason=reason, expires=expires, pinned=pinned, inconclusive=inconclusive
    )
    click.echo(f"{new} new, {there} in {baseline}")
    return 0
