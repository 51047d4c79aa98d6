"""`detrojan bench`: attacks and defences of a plan on its data sets, and tables of the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from detrojan.console.engine_options import engine_options
from detrojan.console.options import FILE, debug_option
from detrojan.console.state import current, start_logging
from detrojan.errors import DataError, InterruptedRunError, OptionError
from detrojan.jobs.sources import EngineSource

if TYPE_CHECKING:
    from detrojan.benchmark.plan import Plan
    from detrojan.benchmark.results import Row


@click.group(
    "bench",
    short_help="Run a plan of attacks and defences, print tables, draw curves.",
    epilog="\b\nExamples:\n"
    "  detrojan bench run benchmark/plans/smoke.toml --out results.jsonl\n"
    "  detrojan bench run benchmark/plans/attacks.toml --profile cpu --data cifar10=cifar-10-batches-bin\n"
    "  detrojan bench table results.jsonl --format markdown\n"
    "  detrojan bench plot results.jsonl --defence pruning --out pruning.png",
)
def command() -> None:
    """Try attacks and defences on data sets, as a plan says, and make tables of what came out.

    A plan is a TOML file: data sets x networks x attacks x defences x seeds.
    """


@command.command(
    "run",
    epilog="\b\nExample:\n"
    "  detrojan bench run benchmark/plans/attacks.toml --profile cpu --data cifar10=cifar-10-batches-bin",
)
@click.argument("plan", type=FILE)
@click.option(
    "--profile",
    metavar="NAME",
    help="How much of everything is used, as the plan says.  [default: full on a GPU, else cpu]",
)
@click.option(
    "--data",
    "paths",
    multiple=True,
    metavar="NAME=PATH",
    help="Where a data set or a file of the plan lies; NAME.test=PATH for its judging part. May be repeated.",
)
@click.option("--out", type=FILE, metavar="FILE", help="The results.  [default: PLAN-PROFILE.jsonl]")
@click.option(
    "--cache", type=FILE, metavar="DIR", default=Path(".cache/bench"), show_default=True,
    help="Where trained networks are kept.",
)  # fmt: skip
@click.option("--device", metavar="NAME", help="A torch device.  [default: auto: cuda, else cpu]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Computing threads.")
@click.option(
    "--mixed-precision/--no-mixed-precision",
    default=None,
    help="Train in bfloat16, about twice as fast where the processor knows it.  [default: on a GPU only]",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="NAME",
    help="Only cells with this attack of the plan. May be repeated.",
)
@engine_options("here")
@click.option(
    "--any-code", is_flag=True, help="Also take over what another version of the code has computed."
)
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is done.")
@debug_option
def run(
    plan: Path,
    profile: str | None,
    paths: tuple[str, ...],
    out: Path | None,
    cache: Path,
    device: str | None,
    threads: int | None,
    mixed_precision: bool | None,
    attacks: tuple[str, ...],
    engine: EngineSource,
    any_code: bool,
    verbose: bool,
) -> int:
    """Run the cells of PLAN that have no result yet; stopped at any point, the same call goes on.

    Each result is one line of JSON. Exit codes: 0 every cell has a result, 2 one or more failed.
    """
    import torch  # noqa: PLC0415 - `--help` shall be fast

    from detrojan.benchmark.cache import Cache  # noqa: PLC0415
    from detrojan.benchmark.execute import execute  # noqa: PLC0415
    from detrojan.benchmark.making import Workshop  # noqa: PLC0415
    from detrojan.benchmark.plan import load_plan  # noqa: PLC0415
    from detrojan.console.outputs import check_writable  # noqa: PLC0415
    from detrojan.console.progress import RichProgress  # noqa: PLC0415
    from detrojan.machine import check_device, device_named, tune  # noqa: PLC0415
    from detrojan.runner.base import engine_named  # noqa: PLC0415

    start_logging(verbose=verbose)
    check_writable(out)
    workers = None if engine == EngineSource(engine="here") else engine_named(**vars(engine))
    state = current()
    check_device(device := device_named(device or "auto"))
    tune(threads)
    profile = profile or ("cpu" if torch.device(device).type == "cpu" else "full")
    loaded, target = load_plan(plan, profile), out or Path(f"{plan.stem}-{profile}.jsonl")
    state.note(f"{_size_of(loaded, attacks)}; on {device}")
    workshop = Workshop(
        plan=loaded,
        paths=_paths(paths),
        cache=Cache(folder=cache, any_code=any_code),
        device=device,
        mixed_precision=mixed_precision,
        progress=RichProgress(state.console),
    )
    try:
        summary = execute(workshop, target, any_code=any_code, attacks=attacks, engine=workers)
    except (KeyboardInterrupt, InterruptedRunError):
        state.note("stopped; the same command goes on from here")
        return 130
    click.echo(
        f"{summary.done} cells computed, {summary.kept} were there, {summary.skipped} do not apply, "
        f"{len(summary.failed)} failed; results in {target}"
    )
    for cell, reason in summary.failed:
        state.note(f"failed: {cell.data} {cell.network} {cell.attack} {cell.defence}: {reason}")
    return 2 if summary.failed else 0


def _size_of(plan: Plan, attacks: tuple[str, ...]) -> str:
    """Return how much a plan uses of everything in its profile."""
    sizes = ", ".join(f"{name} {value}" for name, value in plan.sizes.model_dump().items() if value)
    cells = [cell for cell in plan.cells() if not attacks or cell.attack in attacks]
    return f"profile {plan.profile}{f': {sizes}' if sizes else ''}; {len(cells)} cells"


@command.command("table", epilog="\b\nExample:\n  detrojan bench table results.jsonl --format markdown")
@click.argument("results", nargs=-1, required=True, type=FILE)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown", "html"]),
    default="text",
    show_default=True,
    help="What is written.",
)
@click.option("--out", type=FILE, metavar="FILE", help="Write it here instead of stdout.")
@debug_option
def table(results: tuple[Path, ...], format_: str, out: Path | None) -> int:
    """Print RESULTS as tables: attacks down, defences across, means over the seeds.

    Beside each cell stand the documents' figures, where the plan gave some.
    """
    from detrojan.benchmark.tables import render, tables  # noqa: PLC0415
    from detrojan.console.outputs import check_writable  # noqa: PLC0415
    from detrojan.files import save_text  # noqa: PLC0415

    check_writable(out)
    text = render(tables(_rows(results)), format_)  # type: ignore[arg-type]
    if out is None:
        click.echo(text, nl=False)
    else:
        save_text(out, text)
    return 0


@command.command(
    "plot",
    epilog="\b\nExample:\n  detrojan bench plot signs.jsonl --defence pruning --out pruning.png",
)
@click.argument("results", nargs=-1, required=True, type=FILE)
@click.option("--defence", required=True, metavar="NAME", help="A pruning's or trainer's name in the plan.")
@click.option("--out", required=True, type=FILE, metavar="FILE", help="The picture, a PNG file.")
@debug_option
def plot(results: tuple[Path, ...], defence: str, out: Path) -> int:
    """Draw what a pruning or a training did, for each attack in RESULTS.

    Of a pruning: how clean accuracy and attack success go down on the judging images; the dots say where
    the defender stops. Of a training: the losses of clean and of poisoned samples by epoch.
    """
    from detrojan.benchmark.plots import picture  # noqa: PLC0415
    from detrojan.console.outputs import check_writable  # noqa: PLC0415
    from detrojan.files import save_bytes  # noqa: PLC0415

    check_writable(out)
    save_bytes(out, picture(_rows(results), defence))
    return 0


def _rows(results: tuple[Path, ...]) -> list[Row]:
    """Return the rows of all files.

    Raises:
        DataError: a file that holds none, or something else.

    """
    from detrojan.benchmark.results import read_rows  # noqa: PLC0415

    found = []
    for path in results:
        rows = read_rows(path)
        if not rows:
            raise DataError(f"{path}: expected results, as `detrojan bench run` writes them, got none")
        found += rows
    return found


def _paths(stated: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in stated:
        name, equals, path = text.partition("=")
        if not (equals and name and path):
            raise OptionError(f"expected --data NAME=PATH, got {text!r}")
        found[name] = path
    return found
