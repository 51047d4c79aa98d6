import pytest

from detrojan.report.report import evaluate_report, measures
from detrojan.report.sentences import reach
from detrojan.report.text import evaluate_text, plain_text, repair_text, report_text, scan_text
from detrojan.run import Run


def test_a_found_backdoor_is_said_first(made):
    report, _ = made.make_scan(12, (3,), names=tuple(f"sign {n}" for n in range(12)), warnings=("odd range",))
    text = plain_text(scan_text(report))
    lines = text.splitlines()
    assert lines[0] == "Backdoor found: target label 3 “sign 3”."
    assert "Warning: odd range" in lines
    assert any(line.split()[:3] == ["3", "“sign", "3”"] and "99.5%" in line for line in lines)
    assert "Trigger of label 3: out/trigger-3.safetensors" in lines
    assert "648,000 forward and backward passes" in text


def test_an_inconclusive_scan_says_nothing_of_its_confidence(made):
    report, _ = made.make_scan(12, (3,), verdict="inconclusive")
    text = plain_text(scan_text(report))
    assert "severity" in text
    assert "confidence" not in text


def test_no_evidence_says_what_was_tested(made):
    report, _ = made.make_scan(12, ())
    text = plain_text(scan_text(report))
    assert text.startswith("No evidence of a backdoor in the 12 labels tested.")
    assert "Most anomalous: label " in text
    assert "12 labels of 12 as a possible target: 0 to 11." in text
    assert "clean" not in text.lower()


def test_the_most_anomalous_label_is_never_one_with_a_large_mask(made):
    report, _ = made.make_scan(12, ())
    large = max(report.evidence, key=lambda entry: entry.size)
    evidence = [
        entry.model_copy(update={"anomaly_index": 50.0}) if entry.label == large.label else entry
        for entry in report.evidence
    ]
    assert "50.0" not in plain_text(scan_text(report.model_copy(update={"evidence": evidence})))


def test_a_repair_shows_before_and_after(repair):
    lines = plain_text(repair_text(repair)).splitlines()
    row = next(line for line in lines if line.startswith("Clean accuracy"))
    assert row.split() == ["Clean", "accuracy", "97.8%", "96.9%", "\u22120.9"]
    assert "1. prune: 54 of 160 units of the penultimate layer were pruned." in lines
    assert "The repaired model was scanned again: no evidence of a backdoor." in lines
    assert "Written to out/repaired.keras" in lines


def test_a_repair_that_nobody_checked_says_so(made):
    assert "was not scanned again" in plain_text(repair_text(made.make_repair(verification={})))


def test_a_failed_repair_says_why_and_on_which_images(made):
    told = {"verdict": "backdoored", "reason": "label 5 needs a small trigger", "targets": [5]}
    text = plain_text(report_text(made.make_repair(verification=told)), width=200)
    assert "Not repaired, since the new scan finds a backdoor." in text
    assert "Measured on 900 images that the repair has not seen; a step's figures are of those it" in text
    assert "Not repaired" not in plain_text(report_text(made.make_repair()))


@pytest.mark.parametrize(
    ("classes", "tested", "said", "row"),
    [
        (12, list(range(11)), "scanned again (11 of 12 labels): no", "labels tested: 11 of 12: 0 to 10"),
        (10, list(range(10)), "scanned again: no", "labels tested: 10 of 10: 0 to 9"),
    ],
)
def test_a_verification_says_how_many_labels_it_tested(made, classes, tested, said, row):
    told = {"verdict": "no evidence", "labels_tested": tested, "warnings": ["shown above"]}
    text = plain_text(report_text(made.make_repair(classes, verification=told)), width=200)
    assert said in text
    assert row in text
    assert "shown above" not in text, "the report's warnings hold it"


def test_a_repair_is_named_as_it_was_asked_for(made):
    report = made.make_repair()
    run = report.run.model_copy(update={"method": "fine_pruning"})
    text = plain_text(report_text(report.model_copy(update={"run": run})), width=200)
    assert text.startswith("Repaired by fine_pruning: ")
    assert "1. prune: 54 of 160" in text


@pytest.mark.parametrize(
    ("used", "said"),
    [(None, "On 1,000 images without"), (1000, "On 1,000 images without"), (600, "On 600 of 1,000 images")],
)
def test_a_scan_says_how_many_of_the_images_it_used(made, used, said):
    report, _ = made.make_scan(10, ())
    data = report.data.model_copy(update={"images": 1000, "used": used})
    assert said in plain_text(report_text(report.model_copy(update={"data": data})), width=200)


def test_a_scan_that_recovers_no_trigger_does_not_speak_of_one(made):
    report, _ = made.make_scan(10, ())
    assert any("A recovered trigger is one that the model obeys" in text for text in reach(report)[1])
    bare = [entry.model_copy(update={"attack_success": None}) for entry in report.evidence]
    _, unsaid = reach(report.model_copy(update={"evidence": bare}))
    assert not any("recover" in text for text in unsaid)


def test_several_targets_are_listed(made):
    lines = plain_text(repair_text(made.make_repair(targets=(3, 8)))).splitlines()
    assert sum("towards label" in line for line in lines) == 2


def test_many_targets_of_one_trigger_share_a_row(made):
    text = plain_text(repair_text(made.make_repair(targets=(0, 1, 2, 3, 8))))
    assert sum("towards" in line for line in text.splitlines()) == 1
    assert "towards each of the labels 0 to 3, 8" in text


def evaluation(made, measured):
    return evaluate_report(
        measured, made.make_model(10), made.make_data(), run=Run(), seconds=1, started=made.STARTED
    )


def test_an_evaluation_is_said_in_one_sentence(made):
    measured = measures(
        clean_accuracy=0.9, attack_success={1: 0.5, 4: 0.7}, stamped={1: 90, 4: 80}, counts={"images": 99}
    )
    text = plain_text(evaluate_text(evaluation(made, measured)))
    assert text.startswith("Measured clean accuracy 90.0%, attack success 60.0%.")
    assert "Counts: images 99" in text
    assert ["4", "70.0%", "80"] in [line.split() for line in text.splitlines()]


def test_an_evaluation_of_a_detector_tells_stamped_inputs_from_clean_ones(made):
    measured = measures(counts={"called backdoored": 7})
    measured = measured.model_copy(update={"caught": 0.25, "false_alarms": 0.07})
    text = " ".join(plain_text(evaluate_text(evaluation(made, measured))).split())
    assert text.startswith("Measured stamped inputs caught 25.0%, clean inputs called backdoored 7.0%.")
    assert "Counts: clean called backdoored 7" in text


def test_an_evaluation_of_nothing_says_so(made):
    assert plain_text(evaluate_text(evaluation(made, measures()))).startswith("Nothing was measured.")


@pytest.mark.parametrize("kind", ["scan", "repair", "evaluate"])
def test_80_columns_are_enough_and_names_stay_text(made, kind):
    names = tuple(f"[red]evil[/red]\x1b[31m {'long ' * 30}{n}" for n in range(12))
    report = {
        "scan": lambda: made.make_scan(12, (3, 7), names=names, warnings=("[bold]\x07" + "w" * 200,))[0],
        "repair": lambda: made.make_repair(12, (3, 7), names=names),
        "evaluate": lambda: evaluation(made, measures(clean_accuracy=1.0)),
    }[kind]()
    text = plain_text(report_text(report))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert "\x07" not in text
    if kind != "evaluate":
        assert "[red]" in text


def test_a_repair_that_could_not_be_verified_says_why(made):
    told = {"verdict": "inconclusive", "reason": "3 labels tested; 5 or more are needed", "targets": []}
    text = plain_text(report_text(made.make_repair(verification=told)), width=200)
    assert text.startswith("Repaired by prune, finetune, but not verified: attack success")
    assert "The repair could not be verified: 3 labels tested; 5 or more are needed." in text


def test_a_repair_after_which_a_backdoor_is_found_is_not_called_one(made):
    told = {"verdict": "backdoored", "reason": "label 5 needs a small trigger", "targets": [5]}
    text = plain_text(report_text(made.make_repair(verification=told)), width=200)
    assert text.startswith("Not repaired by prune, finetune: ")


def test_where_the_p_value_decides_the_label_nearest_to_it_is_named(made):
    report, _ = made.make_scan(10, ())
    evidence = [entry.model_copy(update={"p_value": 0.9 - 0.05 * entry.label}) for entry in report.evidence]
    decided = report.criterion.model_copy(
        update={"decides": "p-value", "threshold": None, "significance": 0.02}
    )
    text = plain_text(report_text(report.model_copy(update={"evidence": evidence, "criterion": decided})))
    assert "Most suspicious: label 9, p = 0.45; labels are flagged below 0.02 only." in text


def test_an_interrupted_scan_says_so(made):
    report, _ = made.make_scan(12, (), verdict="inconclusive", details={"interrupted": True})
    first = plain_text(scan_text(report)).splitlines()[0]
    assert first == "Inconclusive: the scan was interrupted, nothing was found so far."


def test_what_to_do_now_follows_the_verdict(made):
    lines = plain_text(scan_text(made.make_scan(12, (3,))[0]), width=200).splitlines()
    assert lines[2].startswith("What to do now: Do not deploy this model.")
    assert lines[3].startswith("  detrojan repair model.h5 ")
    lines = plain_text(repair_text(made.make_repair()), width=200).splitlines()
    assert lines[1].startswith("What to do now: Deploy repaired.keras only")
