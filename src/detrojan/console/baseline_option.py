"""The option of verbs whose findings may be known already."""

from __future__ import annotations

import click

from detrojan.console.options import FILE

baseline_option = click.option(
    "--baseline",
    "baseline_file",
    type=FILE,
    metavar="FILE",
    help="Known findings, which are marked and do not count (see: detrojan baseline write).",
)
