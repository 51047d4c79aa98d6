from __future__ import annotations

import json
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.scans import stages
from detrojan.search import engine
from detrojan.search.inversion import _Inverter

KEYS = {
    "schema", "verdict", "targets", "findings", "labels_tested", "passes", "seconds", "warnings", "model",
    "data", "run",
}  # fmt: skip

#: what needs no trigger that works: two steps
BRIEF = ("--method", "neural_cleanse", "--set", "steps=2", "--set", "mini_batches=1", "--set", "samples=200")


def test_the_backdoor_is_named_with_exit_code_1_in_every_output(world, scanned, cli):
    report = json.loads((scanned / "scan.json").read_text())
    assert report.keys() >= KEYS
    assert report["verdict"] == "backdoored"
    assert report["targets"] == [cli.TARGET]
    assert report["labels_tested"] == list(range(6))
    (finding,) = report["findings"]
    assert finding["attack_success"] > 0.8
    assert finding["trigger"] == f"scan_triggers/label_{cli.TARGET}.safetensors"
    assert (scanned / finding["trigger"]).is_file()
    assert len(report["model"]["sha256"]) == len(report["data"]["sha256"]) == 64
    assert report["run"]["method"] == "neural_cleanse"
    assert report["run"]["hyper_parameters"]["steps"] == 90
    assert report["run"]["command"][:2] == ["detrojan", "scan"]
    assert "Backdoor found" in (scanned / "scan.html").read_text()
    (result,) = json.loads((scanned / "scan.sarif").read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["properties"]["targetLabel"]) == ("backdoor/targeted", cli.TARGET)
    assert 'failures="1"' in (scanned / "scan.xml").read_text()


def test_the_clean_twin_gives_no_evidence_and_exit_code_0(world, cli):
    done = cli.call("scan", world.clean, "--data", world.data, *cli.QUICK)
    assert done.exit_code == 0, done.output
    assert "No evidence of a backdoor in the 6 labels tested" in done.stdout
    assert "clean" not in done.stdout.lower().replace(str(world.clean).lower(), "").replace(
        "neural_cleanse", ""
    )


def test_too_few_labels_are_inconclusive_with_exit_code_3(world, cli):
    done = cli.call("scan", world.model, "--data", world.data, "--labels", "2-4", *BRIEF, "--format", "json")
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert report["labels_tested"] == [2, 3, 4]
    assert report["reason"].startswith("3 labels tested; the anomaly index needs 5 or more")


def test_a_wrong_input_range_is_warned_of_in_the_json_and_on_stderr(world, cli):
    done = cli.call(
        "scan", world.model, "--data", world.data, "--input-range", "0-255", *BRIEF, "--format", "json"
    )
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert report["verdict"] == "inconclusive"
    assert "the input range is doubtful" in report["reason"]
    assert any(text.startswith("input range: the network is fed 0..255") for text in report["warnings"])
    assert "input range: the network is fed 0..255" in done.stderr


@pytest.mark.parametrize("flags", [(), ("--unlabelled",), ("--labels", "0")])
def test_a_network_that_always_answers_the_same_is_inconclusive(world, cli, tmp_path, flags):
    model = load_model(world.clean)
    with torch.no_grad():
        model.module(model.head).bias[2] += 1e4
    save_model(model, tmp_path / "constant.safetensors")
    done = cli.call(
        "scan", tmp_path / "constant.safetensors", "--data", world.data, *cli.QUICK, *flags,
        "--format", "json", "--html", tmp_path / "scan.html",
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    report = json.loads(done.stdout)
    assert report["verdict"] == "inconclusive"
    assert report["reason"].startswith("the network gives label 2 for each of 200 images, so no label")
    assert (report["labels_tested"], report["passes"]) == ([], 0)
    assert "The network gives label 2 for each of 200 images" in (tmp_path / "scan.html").read_text()


def test_a_label_that_almost_all_images_have_is_not_tested_and_the_reader_is_told(world, cli, tmp_path):
    pixels, labels = cli.blobs(480, seed=5)
    chosen = np.flatnonzero(labels == 4)
    chosen = np.concatenate([chosen, chosen, chosen, np.flatnonzero(labels != 4)[:20]])
    np.savez(tmp_path / "uneven.npz", images=pixels[chosen], labels=labels[chosen])
    done = cli.call("scan", world.clean, "--data", tmp_path / "uneven.npz", *BRIEF, "--format", "json")
    assert done.exit_code in (0, 1, 3), done.output
    report = json.loads(done.stdout)
    assert report["labels_tested"] == [0, 1, 2, 3, 5]
    assert any(text.startswith("label 4 was not tested: only ") for text in report["warnings"])
    assert report["details"]["not_tested"] == [4]


def test_labels_beyond_the_model_are_dropped_with_a_warning_and_triggers_go_where_they_are_wanted(
    world, cli, tmp_path
):
    path = cli.npz(tmp_path / "strangers.npz", labels=lambda labels: labels + 5000)
    where = ("--triggers", tmp_path / "found")
    done = cli.call("scan", world.model, "--data", path, *cli.QUICK, *where, "--format", "json")
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert report["targets"] == [cli.TARGET]
    assert any("the labels go up to 5005, the network has 6 classes" in text for text in report["warnings"])
    assert not report["data"]["labelled"]
    assert [path.name for path in (tmp_path / "found").iterdir()] == [f"label_{cli.TARGET}.safetensors"]


@pytest.mark.parametrize("verb", ["scan", "repair"])
def test_a_file_where_the_triggers_would_go_is_noticed_before_the_work(world, cli, tmp_path, verb):
    (tmp_path / "found_triggers").write_text("mine")
    out = ("--out", tmp_path / "mended.safetensors") if verb == "repair" else ()
    done = cli.call(verb, world.model, "--data", world.data, *out, "--json", tmp_path / "found.json")
    assert done.exit_code == 2
    assert f"expected a folder to write to, got the file {tmp_path / 'found_triggers'}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["found_triggers"]


@pytest.mark.parametrize("flags", [(), ("--checkpoint", "state")])
def test_the_state_goes_when_the_work_is_done(world, cli, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK, "--set", "steps=3", *flags)
    assert done.exit_code in (0, 3)
    assert list(tmp_path.rglob("*.safetensors")) == []


def wanted(report):
    return {name: value for name, value in report.items() if name not in {"seconds", "run"}}


@pytest.fixture
def work(monkeypatch):
    """Note the labels that are worked on in this process, and the passes that are spent on them."""
    seen = SimpleNamespace(labels=set(), passes=0)
    step = _Inverter.step

    def noting(self):
        before = self.passes
        seen.labels |= {int(label) for label in self.slots["label"].tolist()}
        step(self)
        seen.passes += self.passes - before

    monkeypatch.setattr(_Inverter, "step", noting)
    return seen


def kill_with(process, folder, pattern, count):
    """Kill the process as soon as it has kept so many states."""
    until = time.monotonic() + 60
    while len(list(folder.rglob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.exact
def test_a_killed_scan_goes_on_where_it_was_and_ends_as_if_nothing_had_happened(
    world, cli, tmp_path, work, monkeypatch
):
    words = (
        "scan", world.clean, "--data", world.data, "--method", "neural_cleanse", "--set", "steps=40",
        "--set", "mini_batches=1",
        "--set", "batch_size=128", "--set", "restarts=1", "--threads", "1", "--format", "json",
    )  # fmt: skip
    first = cli.process(*words, cache=tmp_path)
    state = tmp_path / "detrojan"
    kill_with(first, state, "inversion-*.safetensors", 1)
    (kept,) = state.rglob("inversion-*.safetensors")
    with safe_open(kept, framework="pt") as file:
        values = json.loads(file.metadata()["values"])
        masks = {label: float(file.get_tensor(f"mask.{label}").sum()) for label in values["done"]}
    finished = {int(label) for label in values["done"]}
    assert 0 < len(finished) < 6
    spent = values["passes"]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    resumed = cli.call(*words, "--resume")
    assert resumed.exit_code in (0, 1, 3), resumed.output
    assert "nothing to resume" not in resumed.stderr
    assert list(state.rglob("*.safetensors")) == []
    report = json.loads(resumed.stdout)
    assert work.labels == set(range(6)) - finished, "finished labels are not computed again"
    assert work.passes == report["passes"] - spent, "nor is a pass spent again on the others"
    evidence = {entry["label"]: entry["size"] for entry in report["evidence"]}
    for label, size in masks.items():
        assert evidence[int(label)] == pytest.approx(size, rel=1e-6)

    work.labels.clear()
    whole = cli.call(*words)
    assert work.labels == set(range(6))
    assert wanted(report) == wanted(json.loads(whole.stdout))


def test_without_resume_an_old_state_is_not_used(world, cli, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    old = folder / "inversion-0123456789abcdef.safetensors"
    other = folder / "my-weights.safetensors"
    old.write_bytes(b"old")
    other.write_bytes(b"mine")
    cli.call(
        "scan", world.model, "--data", world.data, *cli.QUICK, "--set", "steps=2", "--checkpoint", folder
    )
    assert not old.exists()
    assert other.read_bytes() == b"mine"


def test_resume_without_a_state_says_so_and_begins(world, cli):
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK, "--set", "steps=2", "--resume")
    assert re.search(r"nothing to resume in .*; starting from the\s+beginning", done.stderr)


def test_an_interrupted_scan_says_where_its_state_is_and_how_to_go_on(world, cli, monkeypatch):
    whole = _Inverter.retire

    def stop(self):
        if self.passes > 2000:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(_Inverter, "retire", stop)
    monkeypatch.setattr("detrojan.search.inversion.SNAPSHOT_SECONDS", 0.0)
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK)
    assert done.exit_code == 130
    assert "run the same command with --resume to continue" in done.stderr
    assert "Traceback" not in done.output


def test_the_default_is_the_cascade_and_it_names_the_target_too(cli, world, tmp_path):
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    done = cli.call("scan", world.model, "--data", world.data, "--json", out, "--html", page)
    assert done.exit_code == 1, done.output
    report = json.loads(out.read_text())
    assert report["targets"] == [cli.TARGET]
    assert "cascade" in json.dumps(report["run"])
    assert report["findings"][0]["p_value"] < 0.05
    assert "abnormally small trigger" in page.read_text()


def test_what_is_known_when_it_is_interrupted_is_written(cli, world, tmp_path, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Stages, "_decided", lambda _self: False)
    monkeypatch.setattr(stages.Stages, "_local", interrupted)
    out = tmp_path / "out.json"
    done = cli.call("scan", world.model, "--data", world.data, "--json", out)
    assert done.exit_code == 130, done.output
    assert json.loads(out.read_text())["details"]["interrupted"]
    assert "--resume" in done.output


@pytest.mark.exact
def test_a_killed_cascade_goes_on_with_the_searches_that_it_has_not_made(
    world, cli, tmp_path, monkeypatch, count_steps
):
    words = ("scan", world.model, "--data", world.data, "--threads", "1", "--format", "json")
    first = cli.process(*words, cache=tmp_path)
    kill_with(first, tmp_path / "detrojan", "search-*.safetensors", 2)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    resumed = cli.call(*words, "--resume")
    assert resumed.exit_code == 1, resumed.output
    spent = count_steps.pop()
    whole = cli.call(*words)
    assert spent < count_steps.pop(), "searches that were finished are not made again"
    reports = [json.loads(done.stdout) for done in (resumed, whole)]
    for report in reports:
        del report["details"]["stage_seconds"], report["details"]["passes_per_second"]
    assert wanted(reports[0]) == wanted(reports[1])


@pytest.fixture
def count_steps(monkeypatch):
    """Count the steps of the searches of each call; `pop` gives the last call's and begins anew."""
    counts = [0]
    advance = engine._Search.advance

    def counting(self):
        counts[-1] += 1
        advance(self)

    monkeypatch.setattr(engine._Search, "advance", counting)

    class Counts:
        def pop(self):
            counts.append(0)
            return counts.pop(-2)

    return Counts()


def test_a_scan_whose_time_is_up_says_what_it_did_not_look_at(world, cli):
    done = cli.call("scan", world.model, "--data", world.data, "--budget", "0.0001", "--format", "json")
    assert done.exit_code == 3, done.output
    report = json.loads(done.stdout)
    assert report["reason"].startswith("the time was up before the end of: additive triggers, patch triggers")
    assert report["run"]["hyper_parameters"]["budget"] == 0.0001
    assert report["details"]["cut_short"][:2] == ["additive triggers", "patch triggers"]


def test_a_time_limit_for_a_scan_that_knows_none_is_refused(world, cli):
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK, "--budget", "9")
    assert done.exit_code in (2, 4)
    assert "neural_cleanse always works to its end" in " ".join(done.stderr.split())


@pytest.mark.exact
def test_several_processes_find_what_one_does(world, scanned, cli, tmp_path):
    words = ("scan", world.model, "--data", world.data, *cli.QUICK, "--processes", 2)
    cli.call(*words, "--json", tmp_path / "scan.json")
    alone, apart = (json.loads((folder / "scan.json").read_text()) for folder in (scanned, tmp_path))
    assert alone["verdict"] == "backdoored"
    for key in ("verdict", "targets", "findings", "evidence", "passes", "details"):
        assert apart[key] == alone[key]
