from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import pytest
import torch

from hostile_models import Runs

POLICY = """
[models]
data = "blobs.npz"

[scan]
method = "neural_cleanse"
set = ["steps=90", "mini_batches=2", "batch_size=16", "samples=200", "statistic=median"]
"""
#: what differs between two calls that find the same
TIMES = ("seconds", "when")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, world):
    """Return a folder of models: backdoored, clean, a copy, damaged, unknown, and one that would run code."""
    folder = tmp_path_factory.mktemp("fleet")
    models = folder / "models"
    (models / "sub").mkdir(parents=True)
    shutil.copy(world.data, folder / "blobs.npz")
    shutil.copy(world.clean, models / "a.safetensors")
    shutil.copy(world.model, models / "b.safetensors")
    shutil.copy(world.model, models / "sub" / "copy.safetensors")
    (models / "cut.safetensors").write_bytes(world.clean.read_bytes()[:900])
    (models / "chat.gguf").write_bytes(b"GGUF" + bytes(96))
    (models / "notes.txt").write_text("no model")
    torch.save({"weight": Runs()}, models / "evil.pt")
    (folder / "policy.toml").write_text(POLICY)
    return folder


def known(out, *, times: bool = False):
    """Return what fleet.json says of each model, by the model's name within its folder."""
    record = json.loads((out / "fleet.json").read_text())
    for model in record["models"]:
        for name in () if times else TIMES:
            model.pop(name)
    return {model["name"].partition("/models/")[2]: model for model in record["models"]}


@pytest.fixture(scope="module")
def scanned(fleet, cli):
    """Return the folder of a whole scan, made in this process with one computing thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detrojan.machine.tune", lambda threads=None: None)
        done = cli.call(
            "fleet", "scan", fleet / "models", "--policy", fleet / "policy.toml", "--out", fleet / "out",
            "--engine", "here",
        )  # fmt: skip
    torch.set_num_threads(threads)
    assert done.exit_code == 1, done.output
    assert "0 unchanged, 2 scanned now" in done.stderr
    said = " ".join(done.stdout.split())
    assert "6 models: backdoor found 1, unsafe file 1, skipped 2, no evidence 1, duplicate 1" in said
    return fleet / "out"


def test_each_model_has_its_result_and_none_stops_the_others(scanned, cli):
    found = known(scanned, times=True)
    status = {name: (model["status"], model.get("category")) for name, model in found.items()}
    assert status == {
        "a.safetensors": ("scanned", None),
        "b.safetensors": ("scanned", None),
        "chat.gguf": ("skipped", "unsupported"),
        "cut.safetensors": ("skipped", "unreadable"),
        "evil.pt": ("skipped", "unsafe"),
        "sub/copy.safetensors": ("duplicate", None),
    }
    bad = found["b.safetensors"]
    assert (bad["verdict"], bad["targets"]) == ("backdoored", [cli.TARGET])
    assert bad["severity"] in {"medium", "high"}
    assert json.loads((scanned / bad["report"]).read_text())["targets"] == [cli.TARGET]
    assert "Backdoor found" in (scanned / bad["page"]).read_text()
    assert found["a.safetensors"]["verdict"] == "no evidence"
    assert found["cut.safetensors"]["verdict"] is None
    assert "GGUF" in found["chat.gguf"]["reason"]
    copy = found["sub/copy.safetensors"]
    assert copy["same_as"].endswith("/b.safetensors")
    assert (copy["verdict"], copy["page"]) == ("backdoored", bad["page"])
    record = json.loads((scanned / "fleet.json").read_text())
    assert [name.rpartition("/")[2] for name in record["failing"]] == [
        "b.safetensors", "evil.pt", "copy.safetensors",
    ]  # fmt: skip
    assert record["ignored"] == 1


def test_a_report_of_a_fleet_can_be_verified_and_repeated(scanned, cli):
    found = known(scanned)["b.safetensors"]
    done = cli.call("verify", scanned / found["report"], found["path"])
    assert done.exit_code == 0, done.output
    assert "This is the file that was judged." in done.stdout
    assert "The scan can be repeated with --again." in done.stdout


def test_the_page_links_each_report_and_runs_one_script_only(scanned):
    page = (scanned / "index.html").read_text()
    links = re.findall(r'<a href="([^"]+)"', page)
    assert len(links) == 3
    assert all((scanned / link).is_file() for link in links)
    assert page.count("<script>") == 1
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", page)
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "3 models of 6 failed by the policy" in page


def test_what_is_unchanged_is_skipped_and_what_changed_is_not(fleet, scanned, cli, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(scanned, out)
    words = ("fleet", "scan", fleet / "models", "--out", out, "--engine", "here", "--policy")
    files = {name: tmp_path / name for name in ("sarif", "junit", "cyclonedx", "prometheus")}
    asked = [word for name, file in files.items() for word in (f"--{name}", file)]
    again = cli.call(*words, fleet / "policy.toml", *asked)
    assert again.exit_code == 1, again.output
    assert all("evil.pt" in file.read_text() for file in files.values())
    assert all("copy.safetensors" in files[name].read_text() for name in ("sarif", "junit", "prometheus"))
    (sarif,) = json.loads(files["sarif"].read_text())["runs"]
    assert [one["ruleId"] for one in sarif["results"]] == ["backdoor/targeted"] * 2
    assert sum("toolExecutionNotifications" in one for one in sarif["invocations"]) == 3
    assert "5 unchanged, 0 scanned now" in again.stderr
    assert (out / "fleet.json").read_bytes() == (scanned / "fleet.json").read_bytes()
    mild = fleet / "mild.toml"
    mild.write_text(POLICY.replace("steps=90", "steps=91") + "\n[fail]\nseverities = []\nunsafe = false\n")
    other = cli.call(*words, mild, "--budget", "1e-9")
    assert other.exit_code == 3
    assert "0 unchanged, 0 scanned now" in other.stderr
    assert {model["status"] for model in known(out).values()} == {"waiting", "skipped", "duplicate"}
    assert "before its turn" in known(out)["a.safetensors"]["reason"]


def test_known_findings_are_accepted_each_under_its_own_path(fleet, scanned, cli, tmp_path):
    out, known_file, sarif = tmp_path / "out", tmp_path / "known.json", tmp_path / "fleet.sarif"
    shutil.copytree(scanned, out)
    done = cli.call("baseline", "write", known_file, out / "fleet.json", "--reason", "a watermark")
    assert done.exit_code == 0, done.output
    assert "2 new, 2 in" in done.stdout
    (fleet / "files.toml").write_text(POLICY + "\n[fail]\nunsafe = false\nskipped = false\n")
    words = ("fleet", "scan", fleet / "models", "--out", out, "--policy", fleet / "files.toml")
    words = (*words, "--engine", "here", "--sarif", sarif)
    done = cli.call(*words, "--baseline", known_file)
    assert done.exit_code == 0, done.output
    assert "0 scanned now" in done.stderr
    said = " ".join(done.stdout.split())
    assert "accepted 1, no evidence 1, duplicate 1" in said
    assert "2 known and accepted, 0 new." in said
    record = json.loads((out / "fleet.json").read_text())
    assert (record["failing"], record["exit_code"], record["baseline"]["accepted"]) == ([], 0, 2)
    assert "accepted: a watermark" in (out / "index.html").read_text()
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    assert [one["suppressions"][0]["justification"] for one in results] == ["a watermark"] * 2
    held = json.loads(known_file.read_text())
    held["entries"] = [entry for entry in held["entries"] if entry["model"].endswith("/b.safetensors")]
    held["entries"][0]["sha256"] = "0" * 64
    known_file.write_text(json.dumps(held))
    done = cli.call(*words, "--baseline", known_file)
    assert done.exit_code == 1
    assert "was accepted for another file of this name" in done.stderr
    failing = json.loads((out / "fleet.json").read_text())["failing"]
    assert [name.rpartition("/")[2] for name in failing] == ["copy.safetensors"]
    assert cli.call(*words).exit_code == 1
    assert "baseline" not in json.loads((out / "fleet.json").read_text())
    assert {model["baseline"] for model in known(out).values()} == {None}


def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_record(fleet, scanned, cli, tmp_path):
    """A call with a worker is killed after its first verdict; the next one works in this process."""
    out = tmp_path / "out"
    words = ("fleet", "scan", fleet / "models", "--policy", fleet / "policy.toml", "--out", out)
    first = cli.process(*words, "--workers", 1, "--threads", 1, cache=tmp_path)
    until, record = time.monotonic() + 240, out / "fleet.json"
    try:
        while not record.exists() or '"status": "scanned"' not in record.read_text():
            assert time.monotonic() < until
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    done = cli.call(*words, "--engine", "here")
    assert done.exit_code == 1, done.output
    here, there = known(scanned), known(out)
    for found in (here, there):
        found["a.safetensors"].pop("reason")  # holds a figure, which threads may round in another order
    assert here == there


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[models]\nnett = 'x'", "nett"),
        ("[models]\nfactory = 'a:b'", "it runs code"),
        ("[scan]\nmethod = 'nothing'", "expected one of the scans"),
        ("[fail]\nseverities = ['huge']", "severities"),
        ("[models", "is no TOML"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_before_the_work(text, says, fleet, cli, tmp_path):
    (tmp_path / "p.toml").write_text(text)
    done = cli.call(
        "fleet", "scan", fleet / "models", "--policy", tmp_path / "p.toml", "--out", tmp_path / "out"
    )
    assert done.exit_code in {2, 4}
    assert says in done.stderr
    assert not (tmp_path / "out" / "fleet.json").exists()


def test_data_that_cannot_be_read_stop_the_call_and_a_target_that_names_nothing_too(fleet, cli, tmp_path):
    for words, says in (
        ([fleet / "models", "--data", tmp_path / "no.npz"], "no.npz"),
        ([fleet / "models" / "*.onnx"], "names nothing"),
    ):
        done = cli.call("fleet", "scan", *words, "--out", tmp_path / "out", "--engine", "here")
        assert done.exit_code == 2
        assert says in done.stderr
