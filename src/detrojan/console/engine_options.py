"""The options that say who does the work of many parts."""

from __future__ import annotations

from collections.abc import Callable

import click

from detrojan.console.options import Verb, group
from detrojan.jobs.sources import EngineSource


def engine_options(usual: str) -> Callable[[Verb], Verb]:
    """Return the decorator that adds --engine, --workers and --address; `usual` is the default engine."""
    return group(
        EngineSource,
        "engine",
        [
            click.option(
                "--engine",
                metavar="NAME",
                default=usual,
                show_default=True,
                help="Who does the work: here (this process), processes, or ray.",
            ),
            click.option(
                "--workers",
                type=click.IntRange(min=1),
                metavar="N",
                help="Parts at the same time, as far as the memory goes.  [default: one for each core]",
            ),
            click.option("--address", metavar="HOST:PORT", help="Of the cluster of the engine ray."),
        ],
    )
