"""One scan, to be repeated at another pace and, as a process of its own, on another processor.

python tests/elsewhere.py MODEL DATA SAMPLES prints what `judged` returns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.data.reading import read_data
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.run import Run
from detrojan.scans.pixel import Pixel
from detrojan.search import asking
from detrojan.search.pace import Pace
from margins import command

SCAN = Pixel(steps=60, batch_size=8, samples=400)
#: the fewest instructions that the libraries know: any processor can do without the others
LEAST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "MKL_CBWR": "COMPATIBLE",
}


def judged(model: Classifier, data: Dataset, samples: int) -> dict[str, Any]:
    """Return verdict, targets and sizes of a scan that computes so many samples per pass."""
    measured = asking.find_pace
    asking.find_pace = lambda _work, _device: Pace(samples=samples, threads=1)
    try:
        result = SCAN.scan(model.copy(), data, run=Run(seed=1, float32=True))
    finally:
        asking.find_pace = measured
    return {
        "verdict": result.verdict,
        "targets": result.targets,
        "sizes": [finding.size for finding in result.findings],
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def judged_elsewhere(model: Path, data: Path, samples: int) -> dict[str, Any]:
    """Return the same of a process without most instructions."""
    done = subprocess.run(
        [*command(Path(__file__)), str(model), str(data), str(samples)],
        env=os.environ | LEAST,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    network, images, at_once = sys.argv[1:]
    print(json.dumps(judged(load_model(network), read_data(images), int(at_once))))  # noqa: T201
