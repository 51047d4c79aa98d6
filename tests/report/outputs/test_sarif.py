"""SARIF; the official schema is checked with the libraries of `make test-extras`."""

import json

import pytest

from detrojan.report.outputs.base import outputs


@pytest.fixture
def run(results):
    log = json.loads(outputs()["sarif"].render_all(results))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    return run


def test_each_problem_is_a_result_under_its_rule(run):
    rules = run["tool"]["driver"]["rules"]
    assert [
        (
            entry["ruleId"],
            entry["level"],
            entry["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        )
        for entry in run["results"]
    ] == [
        ("backdoor/targeted", "error", "m%200.h5"),
        ("backdoor/inconclusive", "note", "m%202.h5"),
        ("backdoor/targeted", "error", "m%203.h5"),
        ("data/poisoned-samples", "warning", "file:///data/bought.npz"),
    ]
    assert all(rules[entry["ruleIndex"]]["id"] == entry["ruleId"] for entry in run["results"])
    first = run["results"][0]
    assert first["rank"] == pytest.approx(99.5)
    assert "turns 99.5% of held-out images" in first["message"]["text"]
    assert first["locations"][0]["logicalLocations"][0]["name"] == "label 3"
    assert len(first["partialFingerprints"]["detrojan/1"]) == 32


def test_every_judged_file_is_there_with_its_digest_and_its_call(run, results):
    assert len(run["artifacts"]) == len(run["invocations"]) == len(results)
    assert run["artifacts"][1]["hashes"] == {"sha-256": "1a" * 32}
    call = run["invocations"][0]
    assert (call["startTimeUtc"], call["endTimeUtc"]) == ("2026-03-01T12:30:00Z", "2026-03-01T12:31:12Z")
    assert (call["exitCode"], call["arguments"]) == (1, ["scan", "model.h5"])
    assert [entry["exitCode"] for entry in run["invocations"]] == [1, 0, 3, 0, 0, 1, 2]


def test_what_could_not_be_judged_is_a_notification(run):
    last = run["invocations"][-1]
    assert not last["executionSuccessful"]
    (told,) = last["toolExecutionNotifications"]
    assert told["associatedRule"]["id"] == "file/runs-code"


def test_an_accepted_finding_is_suppressed_with_its_reason(run):
    known = run["results"][2]
    assert known["baselineState"] == "unchanged"
    assert known["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "a known quirk (until 2027-01-31)"}
    ]
    assert "baselineState" not in run["results"][0]


def test_rules_lead_to_the_lists_of_threats(run):
    taxonomies = run["taxonomies"]
    named = {}
    for relation in run["tool"]["driver"]["rules"][0]["relationships"]:
        target = relation["target"]
        taxonomy = taxonomies[target["toolComponent"]["index"]]
        assert taxonomy["taxa"][target["index"]]["id"] == target["id"]
        named.setdefault(taxonomy["name"], []).append(target["id"])
    assert named == {
        "MITRE ATLAS": ["AML.T0018", "AML.T0018.000", "AML.T0020"],
        "OWASP ML Top 10": ["ML10:2023"],
        "CWE": ["506", "507"],
    }
    assert taxonomies[0]["taxa"][1]["helpUri"] == "https://atlas.mitre.org/techniques/AML.T0018.000"


def test_no_results_are_an_empty_run():
    log = json.loads(outputs()["sarif"].render_all([]))
    assert log["runs"][0]["results"] == []
