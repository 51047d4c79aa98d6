"""A process that reads hostile files, and what it takes: the memory of it and of all its children."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from detrojan.models.nets import NETS

#: bytes of memory, and seconds, that no file may take
MOST_MEMORY, MOST_SECONDS = 2_000_000_000, 60


@dataclass(frozen=True)
class Outcome:
    """How a call ended, and what it took."""

    code: int
    stderr: str
    memory: int
    seconds: float


def _memory(process: int) -> int:
    """Return the bytes that a process and its children hold."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    total, pending = 0, [process]
    while pending:
        one = pending.pop()
        pending += parents.get(one, [])
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    return total


class Driver:
    """A process with the command line in it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"},
        )

    def call(self, *words: object) -> Outcome:
        """Run detrojan; watch what it takes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        started, most = time.monotonic(), 0
        self.process.stdin.write(json.dumps([str(word) for word in words]).encode() + b"\n")
        self.process.stdin.flush()
        while not select.select([self.process.stdout], [], [], 0.02)[0]:
            most = max(most, _memory(self.process.pid))
            assert time.monotonic() - started < MOST_SECONDS, "it takes too long"
        answer = json.loads(self.process.stdout.readline())
        return Outcome(answer["code"], answer["stderr"], most, time.monotonic() - started)

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="session")
def driver():
    """Return the process."""
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is looked up where Linux keeps it")
    made = Driver()
    yield made
    made.end()


@pytest.fixture
def refused(driver):
    """Return a function that makes sure that a call is refused in one line, at little cost."""

    def check(*words: object) -> str:
        outcome = driver.call(*words)
        lines = [line for line in outcome.stderr.splitlines() if line.strip()]
        assert outcome.code == 2, outcome.stderr
        assert len(lines) == 1, outcome.stderr
        assert lines[0].startswith("error: "), outcome.stderr
        assert "internal error" not in lines[0]
        assert outcome.memory < MOST_MEMORY
        assert outcome.seconds < MOST_SECONDS
        return lines[0]

    return check


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """Return a model that can be read."""
    path = tmp_path_factory.mktemp("good") / "good.pt"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.save(NETS["mnist_cnn"].build(10, (1, 28, 28)).state_dict(), path)
    return path
