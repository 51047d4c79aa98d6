"""`detrojan fleet`: judge many models by one policy."""

from __future__ import annotations

from pathlib import Path

import click

from detrojan.console.baseline_option import baseline_option
from detrojan.console.engine_options import engine_options
from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    output_options,
    short_run_options,
)
from detrojan.console.state import current
from detrojan.errors import InterruptedRunError
from detrojan.jobs.sources import EngineSource


@click.group(
    "fleet",
    short_help="Judge many models by one policy.",
    epilog="\b\nExample:\n  detrojan fleet scan models/ --policy fleet.toml --out fleet --workers 4",
)
def command() -> None:
    """Judge folders, lists and caches of models by one policy."""


@command.command(
    "scan",
    epilog="\b\nExamples:\n"
    "  detrojan fleet scan models/ --data photos/ --out fleet\n"
    "  detrojan fleet scan 'models/**/*.pt' list.csv --policy fleet.toml --budget 3600 --workers 4\n"
    "  detrojan fleet scan mlflow:http://host:5000 --policy fleet.toml",
)
@click.argument("targets", nargs=-1, required=True)
@click.option(
    "--policy",
    type=FILE,
    metavar="FILE",
    help="How models are judged, and what fails (TOML).  [default: none]",
)
@click.option(
    "--data", metavar="PATH", help="Clean images; before the policy's.  [default: none, made-up images]"
)
@click.option(
    "--out", type=FILE, metavar="DIR", default=Path("fleet"), show_default=True, help="Where results go."
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Begin no scan after this time; what is left waits for the next call.  [default: no limit]",
)
@baseline_option
@output_options("fleet")
@engine_options("processes")
@short_run_options
def scan(
    targets: tuple[str, ...],
    policy: Path | None,
    data: str | None,
    out: Path,
    budget: float | None,
    baseline_file: Path | None,
    output: OutputOptions,
    engine: EngineSource,
    surroundings: RunOptions,
) -> int:
    """Judge all models that TARGETS name: files, folders, patterns, lists, the Hugging Face cache, MLflow.

    Each model first gets a look without data. Then the most suspicious ones are scanned first. The same
    command goes on where it was stopped, and skips what is unchanged. A file that cannot be judged is
    skipped with its reason.

    Exit codes: 0 nothing fails by the policy, or all findings are accepted; 1 a backdoor found or an unsafe
    file; 2 error; 3 a model without a verdict; 4 wrong usage.
    """
    from detrojan.console.outputs import (  # noqa: PLC0415 - `--help` shall be fast
        check_folder,
        check_writable,
        show,
        write,
        write_gathered,
    )
    from detrojan.console.surroundings import start  # noqa: PLC0415
    from detrojan.jobs.baselines import read_baseline  # noqa: PLC0415
    from detrojan.jobs.fleet.finding import find_models  # noqa: PLC0415
    from detrojan.jobs.fleet.policy import read_policy  # noqa: PLC0415
    from detrojan.jobs.fleet.work import Fleet  # noqa: PLC0415
    from detrojan.report.records.fleet import fleet_text  # noqa: PLC0415
    from detrojan.runner.base import engine_named  # noqa: PLC0415

    run = start(surroundings)
    worker = engine_named(**vars(engine))
    said = read_policy(policy, data, surroundings.seed)
    check_folder(out, writes=("fleet.json", "index.html"))
    check_writable(*output.files.values())
    known = None if baseline_file is None else read_baseline(baseline_file)
    fleet = Fleet(
        find_models(targets, out), said, run=run, engine=worker, out=out, budget=budget, known=known
    )
    try:
        summary = fleet.scan()
    except (KeyboardInterrupt, InterruptedRunError):
        current().note(f"stopped; what is known is in {out}, and the same command goes on from there")
        return 130
    current().note(f"{summary.unchanged} unchanged, {summary.judged} scanned now")
    for text in summary.warnings:
        current().note(f"warning: {text}", "bold yellow")
    write_gathered(summary.results, output)
    if output.format_ == "json":
        write(summary.record.to_json())
    else:
        show(fleet_text(summary.record, str(out)))
    return summary.record.exit_code
