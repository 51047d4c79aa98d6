"""Runs calls of the command line in one process, one for each line of its input."""

from __future__ import annotations

import json
import sys

from click.testing import CliRunner

from detrojan.cli.main import main


def serve() -> None:
    """Answer each call with its exit code and what it wrote to stderr."""
    for line in sys.stdin:
        result = CliRunner().invoke(main, json.loads(line))
        answer = {"code": result.exit_code, "stderr": result.stderr, "stdout": result.stdout[-2000:]}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    serve()
