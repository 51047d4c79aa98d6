"""`detrojan check`: look at model files without data."""

from __future__ import annotations

from pathlib import Path

import click

from detrojan.console.options import FILE, OutputOptions, debug_option, format_option, memory_option


@click.command(
    "check",
    short_help="Look at model files without data: safe to load?",
    epilog="\b\nExample:\n  detrojan check model.safetensors weights.pt",
)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Exit with 3 where a file could not be judged.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Also write the JSON here.")
@format_option()
@memory_option
@debug_option
def command(files: tuple[Path, ...], strict: bool, json_file: Path | None, format_: str) -> int:
    """Say of each FILE whether loading it would run code, and whether its last layer stands out.

    That takes about a second for each file, and no images. It finds only what marks the last layer: "no
    sign" is much less than the "no evidence" of a scan. A suspect file may be a false alarm, for one
    network in fifty by chance alone.

    Exit codes: 0 nothing found, 1 a file runs code or is suspect, 2 error, 3 a file could not be judged
    (with --strict), 4 wrong usage.
    """
    from detrojan.console.outputs import check_writable, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.state import start_logging  # noqa: PLC0415
    from detrojan.jobs.checking import check_files  # noqa: PLC0415
    from detrojan.report.records.check import CheckRecord, check_text  # noqa: PLC0415

    start_logging(verbose=False)
    check_writable(json_file)
    record = CheckRecord(files=list(check_files(files)))
    output = OutputOptions(format_=format_, files={"json": json_file})
    emit_values(record.values(), output, check_text(record))
    return record.exit_code(strict=strict)
