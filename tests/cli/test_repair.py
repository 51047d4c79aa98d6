from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from detrojan.errors import DataError
from detrojan.findings import ScanResult
from detrojan.triggers.base import Trigger


@pytest.fixture(scope="module")
def repaired(world, scanned, cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaired")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("detrojan.machine.tune", lambda threads=None: None)
        done = cli.call(
            "repair", world.model, "--data", world.data, "--findings", scanned / "scan.json",
            "--method", "unlearn,finetune", "--set", "unlearn.epochs=60", "--set", "stamped=0.25",
            "--set", "unlearn.learning_rate=0.001", "--set", "finetune.epochs=1",
            "--out", folder / "new" / "repaired.safetensors", "--n-plus-one", folder / "detector.safetensors",
            "--json", folder / "repair.json", "--html", folder / "repair.html",
        )  # fmt: skip
    return folder, done


def test_a_repair_is_measured_before_and_after_and_verified(repaired, cli):
    folder, done = repaired
    report = json.loads((folder / "repair.json").read_text())
    assert report["before"]["attack_success"] > 0.8
    assert report["after"]["attack_success"] < report["before"]["attack_success"] / 2
    assert report["after"]["clean_accuracy"] > 0.9
    assert {step["method"] for step in report["steps"]} == {"unlearn", "finetune"}
    assert report["verification"]["verdict"] in {"no evidence", "inconclusive", "backdoored"}
    assert cli.TARGET in report["verification"]["labels_tested"]
    assert report["output"].endswith("repaired.safetensors")
    dead = report["after"]["attack_success"] < 0.05
    expected = {"no evidence": 0, "inconclusive": 3, "backdoored": 1}[report["verification"]["verdict"]]
    assert done.exit_code == (expected if dead else 1)
    # "Not repaired by" where the scan that verifies it says so
    assert "epaired by unlearn, finetune" in (folder / "repair.html").read_text()


def test_the_repaired_model_can_be_used_as_the_delivered_one(repaired, world, cli):
    folder, _ = repaired
    done = cli.call(
        "evaluate", folder / "new" / "repaired.safetensors", "--data", world.data, "--against", world.model,
        "--trigger", world.trigger, "--target", cli.TARGET, "--format", "json",
    )  # fmt: skip
    measured = json.loads(done.stdout)
    assert measured["clean_accuracy"] > 0.9
    assert 0.9 < measured["agreement"] <= 1
    assert measured["attack_success"] < 0.5


def test_the_detector_calls_stamped_inputs_backdoored(repaired, world, cli):
    folder, _ = repaired
    words = (
        "evaluate", folder / "detector.safetensors", "--data", world.data, "--trigger", world.trigger,
        "--format", "json", "--against", world.model,
    )  # fmt: skip
    done = cli.call(*words, "--target", cli.TARGET)
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)
    delivered = json.loads(
        cli.call(
            "evaluate", world.model, "--data", world.data, "--trigger", world.trigger,
            "--target", cli.TARGET, "--format", "json",
        ).stdout
    )  # fmt: skip
    assert measured["clean_accuracy"] > 0.9
    assert measured["model"]["classes"] == 7
    assert measured["attack_success"] < 0.5 < delivered["attack_success"]
    assert delivered["caught"] is None
    assert measured["caught"] > 0.5
    # the delivered model falls for the trigger: then it is noticed, or the repaired one falls for it too
    assert measured["caught"] + measured["attack_success"] == pytest.approx(
        delivered["attack_success"], abs=0.02
    )
    counts = measured["counts"]
    assert counts["stamped called backdoored"] == round(measured["caught"] * counts["stamped"])
    free = json.loads(cli.call(*words, "--untargeted").stdout)
    assert free["attack_success"] < 0.5, "an attack that is noticed has not succeeded"
    assert free["caught"] == pytest.approx(measured["caught"] * 400 / 480, abs=0.08)
    done = cli.call(*words, "--target", 6)
    assert done.exit_code == 2
    assert "expected a target of 0 to 5, got 6" in done.stderr


def test_a_clean_image_called_backdoored_is_answered_wrongly(repaired, world, cli, tmp_path):
    folder, _ = repaired
    stamped = Trigger.load(world.trigger).stamp(
        torch.from_numpy(cli.blobs(60, seed=8)[0][:, None, :, :, 0] / 255).float()
    )
    labels = np.arange(60) % 6
    pixels = (stamped * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "stamped.npz", images=pixels, labels=labels)
    words = (folder / "detector.safetensors", "--data", tmp_path / "stamped.npz", "--format", "json")
    measured = json.loads(cli.call("evaluate", *words).stdout)
    called = measured["counts"]["called backdoored"]
    assert called > 25
    assert measured["clean_accuracy"] <= 1 - called / 60 + 1e-6
    assert (measured["attack_success"], measured["caught"]) == (None, None)
    done = cli.call("predict", *words)
    assert done.exit_code == 1
    rows = json.loads(done.stdout)["predictions"]
    alarms = [row for row in rows if row["backdoored"]]
    assert len(alarms) == called
    assert {(row["label"], row["class_name"]) for row in alarms} == {(6, "backdoored")}
    shown = cli.call("predict", *words[:-2]).stdout
    assert len(re.findall(r"\b6 +backdoored\b", shown)) == called


def test_nothing_is_written_where_no_label_is_flagged(world, cli, tmp_path):
    done = cli.call(
        "repair", world.clean, "--data", world.data, "--samples", 60,
        "--out", tmp_path / "repaired.safetensors", "--labels", "0-5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "nothing to repair: no label was flagged; no model was written" in done.stderr
    assert not (tmp_path / "repaired.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--method", "magic"), 4, "expected one of the repairs"),
        (("--set", "prune.floor=1"), 4, "expected a hyper-parameter out of"),
        (("--labels", "0"), 2, r"expected flagged labels out of [3], got [0]"),
        (("--use", "1.5"), 4, "1.5 is not in the range"),
        (("--out", "x.h5"), 2, "expected a path that ends in .safetensors"),
        (("--n-plus-one", "x.pt"), 2, "ends in .safetensors for a model of N + 1 classes, got 'x.pt'"),
        (("--n-plus-one", "out.safetensors"), 4, "expected two files for --out and --n-plus-one"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(world, scanned, cli, tmp_path, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    done = cli.call(
        "repair", world.model, "--data", world.data, "--findings", scanned / "scan.json",
        "--out", "out.safetensors", *words,
    )  # fmt: skip
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize("option", ["--out", "--n-plus-one"])
def test_the_original_is_never_overwritten(world, scanned, cli, tmp_path, option):
    before = world.model.read_bytes()
    done = cli.call(
        "repair", world.model, "--data", world.data, "--findings", scanned / "scan.json",
        "--out", tmp_path / "out.safetensors", option, world.model,
    )  # fmt: skip
    assert done.exit_code == 2
    assert "which is never overwritten" in done.stderr
    assert world.model.read_bytes() == before


def test_adversarial_unlearning_is_the_default(world, scanned, cli, tmp_path):
    done = cli.call(
        "repair", world.model, "--data", world.data, "--findings", scanned / "scan.json", "--no-verify",
        "--set", "rounds=1", "--set", "updates=2", "--set", "steps=2", "--set", "pool=2",
        "--out", tmp_path / "out.safetensors", "--format", "json",
    )  # fmt: skip
    assert done.exit_code in (0, 1), done.output
    report = json.loads(done.stdout)
    assert [step["method"] for step in report["steps"]] == ["adversarial"]
    assert report["run"]["hyper_parameters"]["adversarial"]["updates"] == 2


def test_findings_whose_trigger_is_gone_are_refused(world, scanned, cli, tmp_path):
    (tmp_path / "scan.json").write_text((scanned / "scan.json").read_text())
    done = cli.call(
        "repair", world.model, "--data", world.data, "--findings", tmp_path / "scan.json",
        "--out", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "there is no file" in done.stderr


def test_a_known_trigger_is_unlearned_without_a_scan(world, cli, tmp_path):
    words = ("--data", world.data, "--method", "unlearn", "--no-verify", "--format", "json")
    done = cli.call(
        "repair", world.model, *words, "--trigger", f"{world.trigger}:{cli.TARGET}",
        "--out", tmp_path / "mended.safetensors",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    (before,), (after,) = report["before"]["per_target"], report["after"]["per_target"]
    assert before["attack_success"] > 0.7
    assert after["attack_success"] < 0.05
    for wrong, code, says in (
        ("gone.safetensors:1", 2, "there is no file gone.safetensors"),
        (f"{world.trigger}", 4, "expected --trigger FILE:LABEL, each label once"),
        (f"{world.trigger}:9", 2, "expected labels of 0 to 5, got 9"),
    ):
        done = cli.call(
            "repair", world.model, *words, "--trigger", wrong, "--out", tmp_path / "o.safetensors"
        )
        assert done.exit_code == code, done.output
        assert says in " ".join(done.stderr.split())


def test_a_repair_that_cannot_be_verified_ends_with_exit_code_3(world, cli, tmp_path, monkeypatch):
    again = ScanResult(verdict="inconclusive", reason="too few triggers were found", findings=(), passes=0)
    monkeypatch.setattr("detrojan.jobs.repair_job.verify", lambda *_a, **_k: again)
    done = cli.call(
        "repair", world.model, "--data", world.data, "--method", "unlearn",
        "--trigger", f"{world.trigger}:{cli.TARGET}", "--out", tmp_path / "mended.safetensors",
        "--json", tmp_path / "repair.json",
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    assert "the repair could not be verified: the new scan is inconclusive" in done.stderr
    assert "The repair could not be verified: too few triggers were found." in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "repair.json").read_text())["verification"]["verdict"] == "inconclusive"
    assert (tmp_path / "mended.safetensors").is_file()


def test_too_few_held_out_images_are_noticed_before_the_work(world, cli, tmp_path):
    words = ("--data", world.data, "--samples", 150, "--use", "0.9", "--out", tmp_path / "o.safetensors")
    done = cli.call("repair", world.model, *words)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "20 images or more to scan the repaired model with, got 15 of 150" in said
    assert "--use, or --no-verify" in said
    words += ("--trigger", f"{world.trigger}:{cli.TARGET}", "--method", "finetune", "--no-verify")
    done = cli.call("repair", world.model, *words, "--set", "epochs=1", "--format", "json")
    assert done.exit_code in (0, 1), done.output
    warnings = json.loads(done.stdout)["warnings"]
    assert any("only 15 images measured the repair" in text for text in warnings)


def test_the_repaired_model_is_written_before_the_new_scan_which_may_fail(world, cli, tmp_path, monkeypatch):
    out = tmp_path / "mended.safetensors"

    def failing(*_args, **_more):
        assert out.is_file()
        raise DataError("expected other images")

    monkeypatch.setattr("detrojan.scans.cascade.Cascade.scan", failing)
    done = cli.call(
        "repair", world.model, "--data", world.data, "--method", "unlearn", "--format", "json",
        "--trigger", f"{world.trigger}:{cli.TARGET}", "--out", out,
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)["verification"]
    assert told["verdict"] == "inconclusive"
    assert told["reason"] == "the repaired model could not be scanned: expected other images"
    assert "inconclusive, since the repaired model could not be scanned" in " ".join(done.stderr.split())


def test_an_interrupted_new_scan_leaves_the_model_and_the_report(world, cli, tmp_path, monkeypatch):
    again = ScanResult(
        verdict="inconclusive", reason="somebody stopped the search", findings=(), passes=0,
        warnings=("a warning of its own",), details={"interrupted": True},
    )  # fmt: skip
    monkeypatch.setattr("detrojan.jobs.repair_job.verify", lambda *_a, **_k: again)
    words = (
        "repair", world.model, "--data", world.data, "--method", "finetune", "--set", "epochs=1",
        "--trigger", f"{world.trigger}:{cli.TARGET}", "--out", tmp_path / "mended.safetensors",
        "--json", tmp_path / "repair.json",
    )  # fmt: skip
    done = cli.call(*words)
    assert done.exit_code == 130, done.output
    assert (tmp_path / "mended.safetensors").is_file()
    warnings = json.loads((tmp_path / "repair.json").read_text())["warnings"]
    assert "the new scan: a warning of its own" in warnings
    done = cli.call(*words, "--resume", "--no-verify")
    assert done.exit_code in (0, 1), done.output
    assert "nothing to resume" not in done.stderr, "without the new scan the repair is the same"


def test_an_interrupted_first_scan_repairs_nothing(world, cli, tmp_path, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("detrojan.scans.stages.Stages._strengthen", interrupted)
    done = cli.call(
        "repair", world.model, "--data", world.data, "--out", tmp_path / "o.safetensors",
        "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert done.exit_code == 130, done.output
    assert json.loads((tmp_path / "out.json").read_text())["schema"] == "detrojan.scan/2"
    assert not (tmp_path / "o.safetensors").exists()


def test_the_first_scan_sees_the_images_that_scan_would_draw(world, cli, tmp_path, monkeypatch):
    seen = []

    def scan(_self, _model, data, **_more):
        seen.append(data.images)
        raise DataError("seen")

    monkeypatch.setattr("detrojan.scans.cascade.Cascade.scan", scan)
    images = np.random.default_rng(0).integers(0, 256, (700, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", images=images)
    for verb in (("scan",), ("repair", "--out", tmp_path / "o.safetensors")):
        done = cli.call(verb[0], world.model, "--data", tmp_path / "many.npz", "--seed", "3", *verb[1:])
        assert "seen" in done.stderr, done.output
    assert len(seen[0]) == 600
    assert torch.equal(*seen)


@pytest.mark.parametrize(("verdict", "code"), [("no evidence", 0), ("inconclusive", 3)])
def test_findings_without_a_flagged_label_leave_nothing_to_repair(
    world, scanned, cli, tmp_path, verdict, code
):
    report = json.loads((scanned / "scan.json").read_text())
    for entry in report["evidence"]:
        entry["flagged"] = False
    (tmp_path / "scan.json").write_text(
        json.dumps(report | {"verdict": verdict, "targets": [], "findings": []})
    )
    done = cli.call(
        "repair", world.model, "--data", world.data, "--findings", tmp_path / "scan.json",
        "--out", tmp_path / "o.safetensors",
    )  # fmt: skip
    assert done.exit_code == code, done.output
    assert "nothing to repair: no label was flagged; no model was written" in done.stderr
    assert not (tmp_path / "o.safetensors").exists()


def test_a_repair_with_the_findings_of_another_model_is_warned_of(world, scanned, cli, tmp_path):
    done = cli.call(
        "repair", world.clean, "--data", world.data, "--findings", scanned / "scan.json", "--no-verify",
        "--method", "finetune", "--set", "epochs=1", "--out", tmp_path / "o.safetensors",
        "--format", "json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    (before,) = report["before"]["per_target"]
    said = [text for text in report["warnings"] if "before the repair already: is it this model's?" in text]
    # with some seeds the trigger works a little on the clean twin too
    assert len(said) == int(before["attack_success"] < 0.05)
    assert any("was made from another model file" in text for text in report["warnings"])


def test_a_destroyed_network_is_not_a_repaired_one(world, cli, tmp_path):
    done = cli.call(
        "repair", world.model, "--data", world.data, "--method", "finetune", "--set", "learning_rate=100",
        "--trigger", f"{world.trigger}:{cli.TARGET}", "--no-verify", "--out", tmp_path / "o.safetensors",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    said = " ".join(done.stderr.split())
    assert "clean accuracy fell from" in said
    assert "Not repaired, since" in " ".join(done.stdout.split())
