"""What results come to for other tools."""

import pytest

from detrojan.report.problems import NotJudged, judged, scan_exit
from detrojan.report.records.filter import FilterRecord
from detrojan.report.rules import RULES
from detrojan.report.schema import AimFacts, ScanReport


def aimed(report: ScanReport, **aim) -> ScanReport:
    findings = [
        finding.model_copy(
            update={"aim": AimFacts(**{"target": finding.label, "source": None, "offset": 0} | aim)}
        )
        for finding in report.findings
    ]
    return report.model_copy(update={"findings": findings})


@pytest.fixture
def filtered() -> FilterRecord:
    return FilterRecord(
        method="spectral",
        hyper_parameters={},
        seed=3,
        data={"source": "bought.npz", "sha256": "ef" * 32, "samples": 1000},
        flagged=12,
        flagged_positions=list(range(12)),
        classes={"0": {"flagged": 0}, "4": {"flagged": 12}},
        warnings=[],
        limits=[],
        started="2026-03-01T12:30:00Z",
        seconds=2.5,
        command=None,
    )


def test_rules_have_stable_names_and_say_what_to_do():
    assert [rule.id for rule in RULES] == [
        "backdoor/targeted",
        "backdoor/source-specific",
        "backdoor/all-to-all",
        "backdoor/unnamed",
        "backdoor/inconclusive",
        "repair/not-repaired",
        "repair/not-verified",
        "data/poisoned-samples",
        "file/runs-code",
        "file/not-judged",
    ]
    assert all(text.endswith(".") for rule in RULES for text in (rule.summary, rule.text, rule.help))


@pytest.mark.parametrize(
    ("aim", "rule", "count"),
    [
        ({}, "backdoor/targeted", 2),
        ({"source": 5}, "backdoor/source-specific", 2),
        ({"target": None, "offset": 1}, "backdoor/all-to-all", 1),
    ],
)
def test_each_backdoor_is_one_problem(made, aim, rule, count):
    report = aimed(made.make_scan(targets=(3, 7))[0], **aim)
    found = judged(report)
    assert [problem.rule.id for problem in found.problems] == [rule] * count
    assert len({problem.fingerprint for problem in found.problems}) == count
    assert found.exit_code == scan_exit(report) == 1


def test_a_fingerprint_outlives_the_seed_and_the_folder_but_not_the_target_or_the_name(made):
    def fingerprints(report: ScanReport, path: str = "delivered/model.h5") -> set[str]:
        moved = report.model_copy(update={"model": report.model.model_copy(update={"path": path})})
        return {problem.fingerprint for problem in judged(moved).problems}

    report = made.make_scan()[0]
    other = report.model_copy(
        update={
            "run": report.run.model_copy(update={"seed": 99}),
            "findings": [
                entry.model_copy(update={"size": 22.0, "attack_success": 0.91}) for entry in report.findings
            ],
        }
    )
    assert fingerprints(report) == fingerprints(other) == fingerprints(report, "/srv/model.h5")
    different = [
        fingerprints(made.make_scan(targets=(4,))[0]),
        fingerprints(report, "other.h5"),
        fingerprints(aimed(report, source=2)),
        fingerprints(aimed(report, target=None, offset=1)),
    ]
    assert all(fingerprints(report).isdisjoint(found) for found in different)


@pytest.mark.parametrize(
    ("verdict", "targets", "rule", "code"),
    [
        ("no evidence", (), None, 0),
        ("inconclusive", (), "backdoor/inconclusive", 3),
        ("inconclusive", (3,), "backdoor/inconclusive", 3),
        ("backdoored", (), "backdoor/unnamed", 1),
    ],
)
def test_a_verdict_without_a_named_label(made, verdict, targets, rule, code):
    report = made.make_scan(targets=targets, verdict=verdict)[0]
    found = judged(report)
    assert [problem.rule.id for problem in found.problems] == ([] if rule is None else [rule])
    assert found.exit_code == code
    assert found.ended == "2026-03-01T12:31:12Z"


def test_a_repair_is_judged_by_what_it_came_to(made):
    assert judged(made.make_repair()).problems == ()
    bad = judged(made.make_repair(verification={"verdict": "backdoored"}))
    assert (bad.verdict, bad.exit_code) == ("not repaired", 1)
    assert [problem.rule.id for problem in bad.problems] == ["repair/not-repaired"]
    assert "the new scan finds a backdoor" in bad.problems[0].message
    doubtful = judged(made.make_repair(verification={"verdict": "inconclusive"}))
    assert (doubtful.verdict, doubtful.exit_code) == ("not verified", 3)
    assert [problem.rule.level for problem in doubtful.problems] == ["warning"]


def test_a_filter_has_a_problem_for_each_class(filtered):
    found = judged(filtered)
    assert [(problem.rule.id, problem.label) for problem in found.problems] == [("data/poisoned-samples", 4)]
    assert found.problems[0].message == "12 samples of label 4 are taken for poisoned."
    assert (found.path, found.exit_code, found.ended) == ("bought.npz", 1, "2026-03-01T12:30:02Z")


@pytest.mark.parametrize(("unsafe", "rule"), [(True, "file/runs-code"), (False, "file/not-judged")])
def test_a_file_that_could_not_be_judged(unsafe, rule):
    found = judged(NotJudged(path="x.pt", error="it holds code", unsafe=unsafe))
    assert not found.done
    assert (found.exit_code, found.problems[0].rule.id, found.ended) == (2, rule, "")
