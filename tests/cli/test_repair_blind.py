from __future__ import annotations

import json

import pytest

from detrojan.findings import ScanResult


def test_a_blind_repair_needs_no_finding_and_nobody_says_that_it_is_verified(world, cli, tmp_path):
    done = cli.call(
        "repair", world.model, "--data", world.data, "--blind", "--method", "activation_pruning,finetune",
        "--set", "finetune.epochs=1", "--no-verify", "--out", tmp_path / "o.safetensors",
        "--json", tmp_path / "r.json", "--html", tmp_path / "r.html",
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    said = "the repair could not be verified: no trigger was there to measure the repair with"
    assert said in done.stderr
    assert done.stdout.startswith(
        "Repaired by activation_pruning, finetune, but not verified: clean accuracy"
    )
    assert "Not verified, since no trigger was there to measure the repair with." in done.stdout
    page = (tmp_path / "r.html").read_text()
    assert "Not verified, since no trigger was there" in page
    assert "no trigger was there to try, and a new scan can miss one." in page
    assert "the recovered trigger" not in page
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["findings"] == report["after"]["per_target"] == []
    assert report["after"]["clean_accuracy"] > 0.9
    again = cli.call("evaluate", tmp_path / "o.safetensors", "--data", world.data, "--format", "json")
    assert json.loads(again.stdout)["clean_accuracy"] > 0.9


def test_after_a_blind_repair_every_label_is_scanned_or_those_asked_for(world, cli, tmp_path, monkeypatch):
    asked = []

    def verify(model, data, targets, *, scan, run):
        asked.append(targets)
        return ScanResult(verdict="backdoored", reason="because", findings=(), passes=0)

    monkeypatch.setattr("detrojan.jobs.repair_job.verify", verify)
    words = (
        "repair", world.model, "--data", world.data, "--blind", "--method", "finetune", "--set", "epochs=1",
    )  # fmt: skip
    for more, labels in (((), [0, 1, 2, 3, 4, 5]), (("--labels", "1,4"), [1, 4])):
        done = cli.call(*words, *more, "--out", tmp_path / f"{len(asked)}.safetensors")
        assert done.exit_code == 1, done.output
        assert "the new scan finds a backdoor" in done.stderr
        assert asked.pop() == labels
    done = cli.call(*words, "--labels", "6", "--out", tmp_path / "o.safetensors")
    assert done.exit_code == 2
    assert "expected labels of 0 to 5, got 6" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "finetune,prune,unlearn"), "got prune, unlearn"),
        ((), "(activation_pruning, direction_pruning, fine_pruning, finetune, mcr, nad), got adversarial"),
        (
            ("--trigger", "t.safetensors:1"),
            "expected one of --findings, --trigger, --blind, got --trigger and",
        ),
        (("--method", "nad", "--n-plus-one", "d.safetensors"), "expected findings for --n-plus-one"),
    ],
)
def test_what_a_blind_repair_cannot_do_is_refused(world, cli, tmp_path, words, says):
    done = cli.call(
        "repair", world.model, "--data", world.data, "--blind", "--out", tmp_path / "o.safetensors", *words
    )
    assert done.exit_code == 4, done.output
    assert says in " ".join(done.stderr.split())
    assert not (tmp_path / "o.safetensors").exists()
