"""`detrojan repair`: mend a model."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli import types
from detrojan.cli.inputs import load_inputs
from detrojan.cli.options import (
    FILE,
    DataOptions,
    ModelOptions,
    OutputOptions,
    RunOptions,
    data_options,
    model_options,
    output_options,
    run_options,
    set_option,
)
from detrojan.cli.state import current
from detrojan.errors import LabelError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detrojan.cli.findings import Given
    from detrojan.cli.repair_job import Mended
    from detrojan.findings import ScanResult
    from detrojan.jobs.repairing import Outcome
    from detrojan.method import Method
    from detrojan.models.classifier import Classifier

#: the exit code that says what a repair came to
OUTCOMES: dict[Outcome, int] = {"repaired": 0, "not repaired": 1, "not verified": 3}


@click.command(
    "repair",
    short_help="Mend a model, and check the repair.",
    epilog="\b\nExample:\n"
    "  detrojan repair model.h5 --net deepid --data faces.npz --findings scan.json \\\n"
    "      --method prune,finetune --out repaired.h5 --json repair.json --html repair.html",
)
@model_options
@data_options(samples="  [default: all]")
@click.option(
    "--findings",
    "findings_file",
    type=FILE,
    metavar="JSON",
    help="A scan's JSON, its triggers beside it.  [default: scan first]",
)
@click.option(
    "--trigger",
    "known",
    multiple=True,
    metavar="FILE:LABEL",
    help="A trigger that is known, and its target, instead of a scan's. May be repeated.",
)
@click.option(
    "--blind",
    is_flag=True,
    help="Repair without a scan's findings, by methods that need no trigger, such as fine_pruning.",
)
@click.option("--labels", type=types.Labels(), help="Labels to scan, or which of the findings to repair.")
@click.option(
    "--method",
    default="adversarial",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Repairs, one after the other.",
)
@set_option("repair")
@click.option(
    "--use",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the images to repair with; the others measure before and after.",
)
@click.option("--out", type=FILE, required=True, metavar="FILE", help="The repaired model, of MODEL's kind.")
@click.option(
    "--n-plus-one",
    "n_plus_one_file",
    type=FILE,
    metavar="FILE",
    help="Also write a model with one more class, for backdoored inputs (.safetensors).",
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Scan the repaired model again.")
@output_options
@run_options
def command(
    model: ModelOptions,
    data: DataOptions,
    out: Path,
    n_plus_one_file: Path | None,
    output: OutputOptions,
    surroundings: RunOptions,
    **how: Any,
) -> int:
    """Write a repaired copy of MODEL, measured before and after, and scanned again.

    A repair uses clean images, and the triggers that a scan recovered or that --trigger names.

    "Repaired" means that none of these triggers works on 5% of the images, and that the new scan finds
    no evidence of a backdoor. Clean accuracy, or agreement where there are no labels, may fall by up to
    20 points, and by less than half.

    Exit codes: 0 repaired, or nothing to repair; 1 not repaired; 2 error; 3 not verified; 4 wrong
    usage. A repair is not verified where a scan is inconclusive or cannot be made, or where there is no
    trigger to measure with.
    """
    from detrojan.cli.outputs import check_triggers, check_writable, emit  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.repair_job import Job, check_held_out, rehearse, write_models  # noqa: PLC0415
    from detrojan.cli.scan import scan_named  # noqa: PLC0415
    from detrojan.cli.settings import methods_named  # noqa: PLC0415
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415
    from detrojan.report.pictures import pictures_of  # noqa: PLC0415

    _check_sources(how, n_plus_one_file)
    run, started, begun = start(surroundings), datetime.now(UTC), time.monotonic()
    check_writable(output.json_file, output.html_file, out, n_plus_one_file)
    if how["findings_file"] is None:  # its triggers lie in files already
        check_triggers(output.json_file)
    methods = methods_named("repairs", how["method"].split(","), how["settings"])
    if how["blind"]:
        _check_blind(methods)
    inputs = load_inputs(model, data, run)
    rehearse(inputs.model, out, n_plus_one_file)
    given = _given(how, inputs.model)
    if how["verify"] and (given is None or given.blind or given.findings):
        check_held_out(len(inputs.data), how["use"])
    with kept(run, surroundings, inputs.model.origin.sha256, inputs.data.sha256) as run:
        scan = scan_named("cascade")
        job = Job(inputs=inputs, run=run, scan=scan, methods=methods, started=started, begun=begun)
        given = given or job.scan_first(how["labels"], output)
        if not given.findings and not given.blind:
            return _nothing_to_repair(given, output)
        mended = job.mend(given, how["use"])
        # what has taken the time is kept, whatever becomes of the new scan
        targets = [entry.label for entry in given.findings]
        write_models(inputs.model, mended.model, out, n_plus_one_file, targets)
        if given.blind:  # any label may be a target
            targets = how["labels"] or [*range(inputs.model.num_classes)]
        again = job.scan_again(mended, targets) if how["verify"] else None
        report = job.repair_report(mended, given, again, out=out, output=output)
        emit(report, output, pictures_of(given.findings, inputs.data.images))
        if again is not None and again.details.get("interrupted"):
            raise KeyboardInterrupt  # the state is kept, and --resume goes on from it
    return _ended(mended, again)


def _check_sources(how: dict[str, Any], n_plus_one_file: Path | None) -> None:
    """Refuse more than one source of findings, and none where there has to be one.

    Raises:
        OptionError: of --findings, --trigger and --blind two are given, or --n-plus-one with --blind.

    """
    options = {
        "--findings": how["findings_file"] is not None,
        "--trigger": how["known"],
        "--blind": how["blind"],
    }
    got = [name for name, is_given in options.items() if is_given]
    if len(got) > 1:
        raise OptionError(f"expected one of {', '.join(options)}, got {' and '.join(got)}")
    if how["blind"] and n_plus_one_file is not None:
        raise OptionError("expected findings for --n-plus-one, whose answer is for their labels; got --blind")


def _check_blind(methods: Sequence[Method]) -> None:
    """Refuse repairs that can do nothing without a trigger.

    Raises:
        OptionError: there is one among them.

    """
    from detrojan import catalog  # noqa: PLC0415
    from detrojan.repairs.base import Repair  # noqa: PLC0415

    def is_needy(method: Method) -> bool:
        return isinstance(method, Repair) and method.needs_triggers()

    needy = [method.name for method in methods if is_needy(method)]
    if needy:
        able = [name for name, repair in catalog.methods("repairs").items() if not is_needy(repair())]
        raise OptionError(
            f"expected methods that need no trigger with --blind ({', '.join(able)}), got {', '.join(needy)}"
        )


def _given(how: dict[str, Any], model: Classifier) -> Given | None:
    """Return the findings that the user gave, or None where the model has to be scanned first.

    Raises:
        LabelError: labels beyond the model's classes.

    """
    from detrojan.cli.findings import Given, known_findings, read_findings  # noqa: PLC0415

    labels: list[int] | None = how["labels"]
    if how["findings_file"] is not None:
        return read_findings(how["findings_file"], model, labels)
    if how["known"]:
        return known_findings(how["known"], model)
    if not how["blind"]:
        return None
    if labels and max(labels) >= model.num_classes:
        raise LabelError(f"expected labels of 0 to {model.num_classes - 1}, got {max(labels)}")
    return Given(findings=(), blind=True)


def _nothing_to_repair(given: Given, output: OutputOptions) -> int:
    """Show the scan that flagged no label, and return the exit code."""
    from detrojan.cli.outputs import emit  # noqa: PLC0415
    from detrojan.cli.scan import EXIT  # noqa: PLC0415

    assert given.report is not None
    emit(given.report, output)
    for text in given.warnings:
        current().note(f"warning: {text}", "bold yellow")
    current().note(
        "nothing to repair: no label was flagged; no model was written (--blind repairs nevertheless)"
    )
    return EXIT[given.report.verdict] if given.report.verdict == "inconclusive" else 0


def _ended(mended: Mended, again: ScanResult | None) -> int:
    """Say on stderr what is wrong with the repair, if anything is, and return the exit code."""
    from detrojan.jobs.repairing import repair_outcome  # noqa: PLC0415
    from detrojan.judging.outcome import UNMEASURED, shortcomings  # noqa: PLC0415

    outcome = repair_outcome(mended.before, mended.after, again)
    if outcome == "not repaired":
        verdict = None if again is None else again.verdict
        current().note(f"not repaired: {'; '.join(shortcomings(mended.before, mended.after, verdict))}")
    elif outcome == "not verified":
        reasons = [] if mended.after.per_target else [UNMEASURED]
        if again is not None and again.verdict == "inconclusive":
            reasons.append(f"the new scan is inconclusive, since {again.reason}")
        current().note(f"the repair could not be verified: {'; '.join(reasons)}")
    return OUTCOMES[outcome]
