from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from detrojan.console.outputs import emit_values
from detrojan.console.streams import full, let_go, settle_streams

FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "n?"), ("latin-1", "n\u00fc"), ("utf-8", "n\u00fc")]
)
def test_a_terminal_without_a_letter_gets_a_question_mark(monkeypatch, encoding, shown):
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding=encoding))
    settle_streams()
    sys.stdout.write("n\u00fc\n")
    sys.stdout.flush()
    assert held.getvalue().decode(encoding) == shown + "\n"


def test_closed_streams_are_opened(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    settle_streams()
    sys.stdout.write("nobody reads this")
    sys.stderr.write("nor this")
    assert sys.stdin.read() == ""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_files_are_written_where_the_output_takes_no_more(monkeypatch, tmp_path):
    def no_room(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=no_room, flush=lambda: None))
    wanted = SimpleNamespace(format_="json", json_file=tmp_path / "found.json")
    with pytest.raises(OSError, match="No space left"):
        emit_values({"found": 1}, wanted, "")
    assert '"found": 1' in wanted.json_file.read_text()


def test_only_an_output_without_room_is_told_as_such():
    assert full(OSError(errno.ENOSPC, "")).startswith("expected room for what is written, got: ")
    assert full(OSError(errno.ENOENT, "")) == full(OSError(errno.ENOSPC, "", "a.txt")) == ""


def test_what_a_full_output_holds_is_dropped(monkeypatch):
    with open(os.devnull, "w") as file:  # noqa: PTH123

        def no_room():
            raise OSError(errno.ENOSPC, "No space left on device")

        stream = SimpleNamespace(flush=no_room, fileno=file.fileno)
        monkeypatch.setattr(sys, "stdout", stream)
        assert let_go().startswith("expected room for what is written, got: ")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert let_go() == ""


@pytest.mark.skipif(not FULL.exists(), reason="no such device")
@pytest.mark.parametrize("arguments", [["--help"], ["list", "nets"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_one_clear_line(arguments, unbuffered):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": unbuffered}
    with FULL.open("wb") as device:
        done = subprocess.run(
            [sys.executable, "-m", "detrojan", *arguments],
            env=env,
            stdout=device,
            stderr=subprocess.PIPE,
            check=False,
        )
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: expected room for what is written, got: ")
    assert done.returncode == 2
