"""Results of every kind, for the outputs that hold several."""

import pytest

from detrojan.report.problems import NotJudged
from detrojan.report.records.filter import FilterRecord
from detrojan.report.schema import AcceptedFacts, BaselineFacts

ACCEPTED = AcceptedFacts(reason="a known quirk", expires="2027-01-31")


def accepted(report):
    """Return a scan's report whose findings a baseline accepts."""
    findings = [entry.model_copy(update={"accepted": ACCEPTED}) for entry in report.findings]
    facts = BaselineFacts(path="known.json", sha256="aa" * 32, accepted=1, new=0, expired=0, absent=[])
    return report.model_copy(update={"findings": findings, "baseline": facts})


@pytest.fixture
def results(made):
    """One result of each kind: found, silent, inconclusive, accepted, repaired, filtered, unsafe."""
    scans = [
        made.make_scan(names=tuple(f"kind {number}" for number in range(10)))[0],
        made.make_scan(targets=())[0],
        made.make_scan(targets=(), verdict="inconclusive")[0],
        accepted(made.make_scan(targets=(4,))[0]),
    ]
    named = [
        one.model_copy(
            update={
                "model": one.model.model_copy(update={"path": f"m {place}.h5", "sha256": f"{place}a" * 32})
            }
        )
        for place, one in enumerate(scans)
    ]
    filtered = FilterRecord(
        method="spectral",
        hyper_parameters={},
        seed=3,
        data={"source": "/data/bought.npz", "sha256": "ef" * 32, "samples": 1000},
        flagged=12,
        flagged_positions=list(range(12)),
        classes={"4": {"flagged": 12}},
        warnings=[],
        limits=[],
        started="2026-03-01T12:30:00Z",
        seconds=2.5,
        command=None,
    )
    refused = NotJudged(path='a "b"\n.pt', error="it holds \x1b[1m code & <xml>", unsafe=True)
    return [*named, made.make_repair(), filtered, refused]
