import shlex

import pytest

from detrojan.judging.sizes import TOO_FEW
from detrojan.judging.verdict import SMALL, Case
from detrojan.report.advice import TAXONOMY, advice, advice_text
from detrojan.report.reading import load_report


def texts(report):
    return " ".join(step.text for step in advice(report))


def test_a_found_backdoor_says_do_not_deploy_and_how_to_repair(made):
    report, _ = made.make_scan(12, (3,))
    steps = advice(report)
    assert steps[0].text.startswith("Do not deploy this model.")
    assert "Quarantine" in texts(report)
    command = next(step.command for step in steps if step.command)
    assert shlex.split(command)[:3] == ["detrojan", "repair", "model.h5"]
    said, helps = advice_text(report)
    assert said.startswith("Do not deploy")
    assert helps == command


def test_a_method_without_triggers_and_a_backdoor_without_a_target_get_their_own_commands(made):
    report, _ = made.make_scan(12, (3,))
    bare = [finding.model_copy(update={"attack_success": None}) for finding in report.findings]
    commands = [step.command for step in advice(report.model_copy(update={"findings": bare}))]
    assert any(command and command.startswith("detrojan scan ") for command in commands)
    unnamed, _ = made.make_scan(12, (), verdict="backdoored")
    assert "--blind" in next(step.command for step in advice(unnamed) if step.command)


def test_words_of_a_command_cannot_end_it(made):
    report, _ = made.make_scan(12, (3,))
    evil = ["detrojan", "scan", "a; rm -rf b", "--data", "$(c)"]
    report = report.model_copy(update={"run": report.run.model_copy(update={"command": evil})})
    command = next(step.command for step in advice(report) if step.command)
    assert "'a; rm -rf b'" in command
    assert "'$(c)'" in command


def test_no_evidence_is_no_proof(made):
    report, _ = made.make_scan(12, ())
    assert "This is not a proof." in texts(report)
    assert advice(report)[-1].command.startswith("detrojan guard calibrate ")


def case(**values):
    return Case(**({"looked": "3 labels tested", "doubtful": False, "targets": (), "sign": SMALL} | values))


@pytest.mark.parametrize(
    ("made_of", "helps"),
    [
        (case(doubtful=True), "--mean and --std"),
        (case(unfinished="the time was up before the end of: patches"), "--device cuda"),
        (case(unfinished="somebody stopped the search"), "run to its end"),
        (case(too_few=TOO_FEW), "Test more labels"),
        (case(doubt="label 3 needs a trigger of 30% of the usual size: look closer at it"), "another --seed"),
        (case(doubt="no label needs one, but made-up images cannot show there is none"), "real images"),
        (case(doubt="it learned to answer only 60% of others as the network does"), "what is usual learns"),
        (case(doubt="nobody knows"), "another --method"),
    ],
)
def test_an_inconclusive_scan_says_what_would_help(made, made_of, helps):
    verdict, reason = made_of.verdict()
    report, _ = made.make_scan(12, (), verdict=verdict, reason=reason)
    steps = advice(report)
    assert steps[0].text.startswith("Do not take this for a pass.")
    assert helps in texts(report)
    assert len(steps) == 2
    assert helps in advice_text(report)[0]


@pytest.mark.parametrize(
    ("verification", "said"),
    [
        (None, "Deploy repaired.keras only"),
        ({"verdict": "backdoored"}, "Do not deploy either file."),
        ({"verdict": "inconclusive"}, "Do not deploy the repaired file before a scan has passed it."),
    ],
)
def test_a_repair_says_which_file_may_be_used(made, verification, said):
    report = made.make_repair(verification=verification)
    assert said in texts(report)
    assert advice_text(report)[0] == advice(report)[0].text


@pytest.mark.parametrize("kind", ["scan", "repair"])
def test_the_json_holds_the_advice_and_the_names_of_the_attack(made, kind, tmp_path):
    report = made.make_scan(12, (3,))[0] if kind == "scan" else made.make_repair()
    read = load_report(report.save(tmp_path / "report.json"))
    assert read.advice == advice(report)
    assert read.taxonomy == TAXONOMY
    assert {"AML.T0018", "AML.T0020", "ML10:2023"} <= {entry.id for entry in read.taxonomy}
