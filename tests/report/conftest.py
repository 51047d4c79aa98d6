"""Reports made from made-up numbers: what the outputs are tested with."""

import sys
from datetime import UTC, datetime

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.findings import PIXELS, Criterion, Finding, RepairStep, ScanResult
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.preprocessing import Preprocessing
from detrojan.report.report import measures, repair_report, scan_report
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.triggers.patch import PatchTrigger

BY_INDEX = Criterion(
    statistic="size of the recovered trigger", direction="low", decides="index", threshold=2.0
)
STARTED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class MadeUpScan(Scan):
    """Looks for one small trigger that works on images of every class.

    Reference: Somebody et al., A Paper, 2019.
    """

    name = "made-up-scan"

    def hyper_parameters(self):
        return {"steps": 1000, "threshold": 2.0, "cost": float("nan"), "betas": (0.5, 0.9)}

    def judge(self, model, ready, run):
        raise NotImplementedError


class MadeUpPrune(MadeUpScan):
    """Stands for a repair."""

    name = "prune"


class MadeUpFineTune(MadeUpScan):
    """Stands for another one."""

    name = "finetune"


def make_model(classes, shape=(3, 32, 32), names=()):
    network = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
    return Classifier(
        network,
        shape,
        preprocessing=Preprocessing(high=255.0, mean=(0.5,), std=(2.0,)),
        class_names=names,
        origin=Origin(path="delivered/model.h5", sha256="ab" * 32, format="keras", net="sign_cnn"),
    )


def make_data(shape=(3, 32, 32), count=6):
    """Return smooth pictures that stand for photographs."""
    channels, height, width = shape
    y = torch.linspace(0, 1, height)[None, None, :, None]
    x = torch.linspace(0, 1, width)[None, None, None, :]
    phase = torch.arange(count * channels).view(count, channels, 1, 1)
    images = 0.5 + 0.5 * torch.sin(phase * 1.7 + 5 * x * (1 + phase % 3) + 4 * y)
    return Dataset(
        images.expand(count, *shape).contiguous(),
        source="faces.npz",
        sha256="cd" * 32,
        notes=("uint8 / 255",),
    )


def make_findings(classes, targets, shape=(3, 32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (torch.randn(classes, generator=generator) * 55 + 330).clamp(min=90)
    for place, target in enumerate(targets):
        sizes[target] = 14.0 + 9 * place
    spread = (sizes - sizes.quantile(0.5)).abs()
    index = spread / (1.4826 * spread.quantile(0.5))
    return tuple(
        Finding(
            label=label,
            anomaly_index=float(index[label]),
            size=float(sizes[label]),
            unit=PIXELS,
            attack_success=0.995 if label in targets else 0.99,
            flagged=label in targets,
            severity="high" if label in targets else "low",
            confidence="high" if label in targets else "low",
            trigger=PatchTrigger.corner(shape, size=4, alpha=0.9) if label in targets else None,
        )
        for label in range(classes)
    )


def make_scan(classes=10, targets=(3,), *, names=(), shape=(3, 32, 32), **values):
    findings = make_findings(classes, targets, shape)
    given = {
        "verdict": "backdoored" if targets else "no evidence",
        "reason": f"{len(targets)} of {classes} labels need a far smaller trigger than the others.",
        "findings": findings,
        "passes": 54_000 * classes,
        "criterion": BY_INDEX,
    }
    result = ScanResult(**(given | values))
    report = scan_report(
        result,
        make_model(classes, shape, names),
        make_data(shape),
        run=Run(seed=7),
        method=MadeUpScan(),
        seconds=72.4,
        started=STARTED,
        trigger_files={label: f"out/trigger-{label}.safetensors" for label in targets},
        command=["detrojan", "scan", "model.h5"],
    )
    return report, result


def make_repair(classes=10, targets=(3,), *, names=(), verification=None):
    pruned = list(range(0, 161, 2))
    step = RepairStep(
        method="prune",
        summary="54 of 160 units of the penultimate layer were pruned.",
        curves={
            "neurons pruned": [float(n) for n in pruned],
            "clean accuracy": [0.972 if n < 90 else max(0.1, 0.972 - (n - 90) * 0.0125) for n in pruned],
            "attack success": [max(0.004, 1 - (n / 54) ** 3) for n in pruned],
        },
        details={"chosen": 54, "layer": "dense_1"},
    )
    tune = RepairStep(
        method="finetune",
        summary="Five epochs on 450 images.",
        curves={"epoch": [1.0, 2.0, 3.0, 4.0, 5.0], "loss": [1.9, 1.1, float("nan"), 0.5, 0.4]},
    )
    return repair_report(
        [step, tune],
        make_model(classes, names=names),
        make_data(),
        [finding for finding in make_findings(classes, targets) if finding.flagged],
        before=measures(
            clean_accuracy=0.978,
            attack_success=dict.fromkeys(targets, 1.0),
            stamped=dict.fromkeys(targets, 810),
            counts={"images": 900, "stamped": 810},
        ),
        after=measures(
            clean_accuracy=0.969,
            attack_success=dict.fromkeys(targets, 0.006),
            counts={"images": 900, "stamped": 810},
        ),
        run=Run(seed=7),
        methods=[MadeUpPrune(), MadeUpFineTune()],
        seconds=12.0,
        started=STARTED,
        output="out/repaired.keras",
        output_sha256="cd" * 32,
        verification={
            "verdict": "no evidence",
            "reason": "No label stands out.",
            "targets": [],
            "highest_index": 1.4,
        }
        if verification is None
        else verification,
    )


@pytest.fixture
def made():
    """The makers above, for tests that need other reports than the usual ones."""
    return sys.modules[__name__]


@pytest.fixture
def scan():
    return make_scan()[0]


@pytest.fixture
def repair():
    return make_repair()
