"""Run the tests of trained networks with other seeds and on a lesser processor, and print the margins.

Each test file runs once for each shift of the seeds and each processor, in a process of its own. What a
file asserts is noted comparison by comparison. The table has one row for each: how the figure did over
all runs, and how many standard deviations its mean lies from the bound.

Exit code 1: a test failed, or a figure lies nearer to its bound than --least standard deviations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
STATE = CHECKOUT / ".cache" / "steadiness"
#: what keeps the libraries from instructions beyond AVX2
PROCESSORS = {
    "plain": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
    },
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One test file under one shift and processor."""

    path: str
    shift: int
    processor: str

    @property
    def record(self) -> Path:
        """Where its margins lie once it has ended."""
        name = self.path.removeprefix("tests/").replace("/", "-").removesuffix(".py")
        return STATE / sources(self.path) / f"{name}-{self.shift}-{self.processor}.jsonl"

    def run(self) -> None:
        """Run the tests, unless that was done before."""
        if self.record.exists():
            return
        self.record.parent.mkdir(parents=True, exist_ok=True)
        part = self.record.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.touch()
        environment = os.environ | PROCESSORS[self.processor] | {"OMP_NUM_THREADS": "1"}
        environment["DETROJAN_TEST_NETWORKS"] = str(STATE / "networks")
        # the assertions are compiled anew: those of an older run may lack what reports their margins
        environment["PYTHONPYCACHEPREFIX"] = str(STATE / "compiled")
        done = subprocess.run(  # noqa: S603 - this Python's own pytest
            [*PYTEST, "-m", "effect", f"--seed-shift={self.shift}", f"--margins={part}", self.path],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in {0, 1}:
            raise SystemExit(done.stdout + done.stderr)
        part.replace(self.record)
        print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {self.path} {self.shift} {self.processor}")
        sys.stdout.flush()


PYTEST = (sys.executable, "-m", "pytest", "--timeout=1200", "-o", "enable_assertion_pass_hook=true")


@cache
def sources(path: str) -> str:
    """Return a digest of the package, of what the tests share, and of one test file."""
    total = hashlib.sha256()
    shared = (one for one in (CHECKOUT / "tests").rglob("*.py") if not one.name.startswith("test_"))
    for one in sorted((*(CHECKOUT / "src").rglob("*.py"), *shared, CHECKOUT / path)):
        total.update(one.read_bytes())
    return total.hexdigest()[:12]


def files(selection: Sequence[str]) -> list[str]:
    """Return the test files of the selection that have tests of trained networks."""
    listed = subprocess.run(  # noqa: S603 - the same
        [*PYTEST, "-m", "effect", "--collect-only", *selection],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode not in {0, 5}:
        raise SystemExit(listed.stdout + listed.stderr)
    return list(dict.fromkeys(line.split("::")[0] for line in listed.stdout.splitlines() if "::" in line))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison over all runs."""

    test: str
    line: int
    text: str
    op: str
    figures: tuple[float, ...]
    bounds: tuple[float, ...]
    distances: tuple[float, ...]
    runs: int

    @property
    def margin(self) -> float:
        """Standard deviations from the bound; infinite where nothing varies, or there is but one run."""
        spread = statistics.stdev(self.distances) if len(self.distances) > 1 else 0.0
        mean = statistics.fmean(self.distances)
        return mean / spread if spread > 0 else math.copysign(math.inf, mean)

    def line_of(self, least: float) -> str:
        """Return the row of the table."""
        spread = statistics.stdev(self.figures) if len(self.figures) > 1 else 0.0
        worst = self.figures[self.distances.index(min(self.distances))]
        bound = statistics.fmean(self.bounds)
        mark = "<" if self.margin < least or min(self.distances) < 0 else " "
        numbers = (
            f"{statistics.fmean(self.figures):9.4g} {spread:9.3g} {worst:9.4g} {self.op:>2} {bound:9.4g}"
        )
        return f"{mark} {self.margin:7.1f} {self.runs:3} {numbers}  {self.test}:{self.line}  {self.text[:90]}"


def rows(records: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """Return the comparisons of all records, and what failed in them."""
    found: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    failed = []
    for record in records:
        for line in record.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "failed" in entry:
                failed.append(f"{record.stem.split('-', 1)[1]}: {entry['test']}: {entry['failed']}")
            else:
                found[entry["test"], entry["line"], entry["count"]].append(entry)
    return [
        Row(
            test=test,
            line=line,
            text=entries[0]["text"],
            op=entries[0]["op"],
            figures=tuple(entry["figure"] for entry in entries),
            bounds=tuple(entry["bound"] for entry in entries),
            distances=tuple(entry["distance"] for entry in entries),
            runs=len(entries),
        )
        for (test, line, _), entries in found.items()
    ], failed


def main() -> None:
    """Run what is asked for, print the table, and exit with 1 where a margin is too small."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", nargs="*", default=["tests"], help="folders and files; all by default")
    parser.add_argument("-j", "--processes", type=int, default=1, help="files that run side by side")
    parser.add_argument("--shifts", type=int, nargs="+", default=[0, 1, 2, 3], help="of the seeds")
    parser.add_argument("--processors", nargs="+", choices=PROCESSORS, default=list(PROCESSORS))
    parser.add_argument("--least", type=float, default=3.0, help="standard deviations that are enough")
    parser.add_argument("--all", action="store_true", help="print also what has margin enough")
    parser.add_argument("--no-run", action="store_true", help="print what is known, run nothing")
    asked = parser.parse_args()
    paths = files(asked.tests)
    jobs = [
        Job(path=path, shift=shift, processor=processor)
        for shift in asked.shifts
        for processor in asked.processors
        for path in paths
    ]
    if not asked.no_run:
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(Job.run, jobs))
    known, failed = rows([job.record for job in jobs if job.record.exists()])
    low = [row for row in known if row.margin < asked.least or min(row.distances) < 0]
    print(f"  {'margin':>7} {'n':>3} {'mean':>9} {'std':>9} {'worst':>9}    {'bound':>9}  test")
    for row in sorted(known if asked.all else low, key=lambda row: row.margin):
        print(row.line_of(asked.least))
    print(f"{len(known)} figures, {len(low)} of them with less than {asked.least:g} standard deviations")
    for text in failed:
        print(f"FAILED {text}")
    sys.exit(bool(low or failed))


if __name__ == "__main__":
    main()
