"""Reports are checked against files, and scans repeated."""

import hashlib
import json

import numpy as np
import pytest


@pytest.fixture
def changed(scanned, tmp_path):
    """Return what writes the scan's report with other values."""

    def write(**values):
        report = json.loads((scanned / "scan.json").read_text())
        path = tmp_path / "changed.json"
        run = report["run"] | values.pop("run", {})
        path.write_text(json.dumps(report | {"run": run} | values))
        return path

    return write


def test_the_judged_file_is_told_from_others(world, scanned, cli):
    done = cli.call("verify", scanned / "scan.json", world.model)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert said.startswith("This is the file that was judged.")
    assert "by detrojan 0.1.0, neural_cleanse, seed 0: backdoored." in said
    assert "The scan can be repeated with --again." in said
    done = cli.call("verify", scanned / "scan.json", world.clean)
    assert done.exit_code == 1
    assert done.stdout.startswith("This is another file.")


def test_a_repeated_scan_is_the_same(world, scanned, cli, tmp_path):
    out = tmp_path / "verify.json"
    done = cli.call("verify", scanned / "scan.json", world.model, "--again", "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    assert (record["same"], record["data"]["same"], record["again"]["same_verdict"]) == (True, True, True)
    assert record["again"]["targets"] == [cli.TARGET]
    assert (record["again"]["figures"], record["again"]["compared"]) == ([], 24)
    assert "All 24 figures are the same." in done.stdout


def test_other_data_and_other_figures_are_noticed(world, cli, changed, tmp_path):
    images, labels = cli.blobs(480, seed=77)
    np.savez(tmp_path / "other.npz", images=images, labels=labels)
    report = changed()
    done = cli.call("verify", report, world.model, "--data", tmp_path / "other.npz", "--format", "json")
    assert done.exit_code == 1
    record = json.loads(done.stdout)
    assert (record["model"]["same"], record["data"]["same"], record["again"]) == (True, False, None)


def test_another_verdict_of_a_repeated_scan_is_exit_code_1(world, cli, changed):
    done = cli.call("verify", changed(verdict="inconclusive"), world.model, "--again")
    assert done.exit_code == 1
    assert "A new scan says something else: backdoored, targets [3]." in done.stdout


def test_what_differs_here_is_said(world, cli, changed):
    versions = {"detrojan": "0.0.9", "torch": "1.0"}
    done = cli.call("verify", changed(run={"versions": versions, "device": "cuda:1"}), world.model)
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "Differs: detrojan 0.0.9 then, 0.1.0 now" in said
    assert "Differs: device cuda:1 then, cpu now" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--factory", "os:getcwd"], "got one with --factory"),
        (["--allow-unsafe"], "got one with --allow-unsafe"),
        (["--url", "http://127.0.0.1:1"], "got one with --url"),
        (["--bogus"], "expected a report with the command of a scan"),
    ],
)
def test_a_report_s_command_runs_no_code_and_asks_nobody(world, cli, changed, words, says):
    command = ["detrojan", "scan", str(world.model), "--data", str(world.data), *words]
    done = cli.call("verify", changed(run={"command": command}), world.model, "--again")
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())


def test_a_repair_s_report_is_about_the_repaired_file(world, cli, tmp_path):
    after, report = tmp_path / "mended.safetensors", tmp_path / "repair.json"
    done = cli.call(
        "repair", world.model, "--data", world.data, "--trigger", f"{world.trigger}:{cli.TARGET}",
        "--method", "unlearn", "--set", "unlearn.epochs=1", "--no-verify", "--out", after, "--json", report,
    )  # fmt: skip
    assert done.exit_code in {0, 1}, done.output
    for model, code, says in (
        (after, 0, "This is the repaired file."),
        (world.model, 1, "This is the file as it was delivered, from before the repair."),
        (world.clean, 1, "This is another file."),
    ):
        done = cli.call("verify", report, model)
        assert done.exit_code == code, done.output
        assert done.stdout.startswith(says)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (world.model, after)]
    said = json.loads(report.read_text())
    assert [said["model"]["sha256"], said["output_sha256"]] == digests


def test_what_cannot_be_verified_is_said(world, scanned, cli, changed, tmp_path):
    (tmp_path / "no.json").write_text("{}")
    gone = tmp_path / "gone.pt"
    python = changed(run={"command": None})
    for words, code, says in (
        ((tmp_path / "no.json", world.model), 2, "expected a report with a schema of"),
        ((scanned / "scan.json", gone), 2, "does not exist"),
        ((python, world.model, "--again"), 2, "got one of Python"),
        ((scanned / "scan.json",), 4, "Missing argument 'MODEL'"),
    ):
        done = cli.call("verify", *words)
        assert done.exit_code == code, done.output
        assert says in " ".join(done.stderr.split())
    done = cli.call("verify", python, world.model)
    assert done.exit_code == 0
    assert "the report does not name the command of its scan" in " ".join(done.stdout.split())
