"""What pipelines include: the action's script, the job and the hook really run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
import yaml

from blobs import KINDS
from detrojan.cli.scan import command as scan
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.run import Run
from hostile_models import runs_code
from prose import ROOT

DEPLOY = ROOT / "deploy"


@pytest.fixture
def shell(tmp_path):
    """Return what runs bash with `detrojan` on its path: the real one, or one that notes its words."""
    tools = tmp_path / "tools"
    tools.mkdir()
    source = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); from detrojan.cli.main import main; main()"
    )

    def run(script: str, *, real: bool, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        inner = (
            f'exec {sys.executable} -c {shlex.quote(source)} "$@"'
            if real
            else f'printf "%s\\n" "$@" > {folder}/words'
        )
        (tools / "detrojan").write_text(f"#!/usr/bin/env bash\n{inner}\n")
        (tools / "detrojan").chmod(0o755)
        path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env={"PATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def delivered(tmp_path):
    """Return a folder with a network, one row of whose last layer is turned as by poison, and its twin.

    The defaults of the folder name a scan that takes milliseconds, as those of a user may name another.
    """
    pixels = np.random.default_rng(1).integers(0, 255, (120, 16, 16, 1)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(120) % 10)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    for name, planted in (("a suspect", True), ("its twin", False)):
        model = start_net("mnist_cnn", (1, 16, 16), classes=10, run=Run(seed=3))
        with torch.no_grad():
            head = model.module(model.head)
            if planted:
                head.weight[6] = 3 * head.weight[6].abs() - head.weight.mean(0)
            head.bias -= model.logits(images).mean(0)  # every label is somebody's answer
        save_model(model, tmp_path / f"{name}.safetensors")
    (tmp_path / "detrojan.toml").write_text('[scan]\nmethod = "head_rows"\n')
    return tmp_path


def results(folder: Path) -> tuple[list[str], list[bool]]:
    """Return the rules of a SARIF file's results, and which tests of a JUnit file fail."""
    (run,) = json.loads((folder / "scan.sarif").read_text())["runs"]
    cases = ET.parse(folder / "scan.xml").getroot().iter("testcase")
    return [one["ruleId"] for one in run["results"]], [case.find("failure") is not None for case in cases]


@pytest.mark.parametrize(
    ("model", "code", "found"),
    [("a suspect", 1, (["backdoor/targeted"], [True])), ("its twin", 0, ([], [False]))],
)
def test_the_action_fails_for_a_backdoor_and_passes_its_twin(shell, delivered, model, code, found):
    done = shell(
        f"bash {DEPLOY}/github/scan.sh", real=True, folder=delivered,
        DETROJAN_MODEL=f"{model}.safetensors", DETROJAN_DATA="images.npz", DETROJAN_ARGS="--set samples=100",
        GITHUB_OUTPUT=str(delivered / "output"), GITHUB_STEP_SUMMARY=str(delivered / "summary.md"),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert results(delivered / "detrojan-scan") == found
    assert (delivered / "output").read_text().split("\n")[:3] == [
        f"verdict={'backdoored' if code else 'no evidence'}",
        f"exit-code={code}",
        "sarif=detrojan-scan/scan.sarif",
    ]
    said = (delivered / "summary.md").read_text()
    assert ("Backdoor found: target label 6" if code else "No evidence of a backdoor") in said
    assert {path.name for path in (delivered / "detrojan-scan").iterdir()} == {
        "scan.json", "scan.html", "scan.sarif", "scan.xml", "scan.txt",
    }  # fmt: skip


def test_the_job_s_script_fails_for_a_backdoor(shell, delivered):
    job = yaml.safe_load((DEPLOY / "gitlab" / "detrojan.gitlab-ci.yml").read_text())["detrojan"]
    script = "\n".join(job["script"]).replace('--budget "$DETROJAN_BUDGET"', "")  # this scan has none
    stated = {"DETROJAN_MODEL": "a suspect.safetensors", "DETROJAN_DATA": "images.npz"}
    done = shell(script, real=True, folder=delivered, **job["variables"] | stated)
    assert done.returncode == 1, done.stderr
    assert results(delivered) == (["backdoor/targeted"], [True])
    assert all((delivered / name).is_file() for name in job["artifacts"]["paths"])


def test_the_action_s_inputs_are_words_and_no_code(shell, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "scan.json").write_text('{"verdict": "no evidence"}')
    done = shell(
        f"bash {DEPLOY}/github/scan.sh", real=False, folder=tmp_path,
        DETROJAN_MODEL="$(touch hacked); m.pt", DETROJAN_DATA="d", DETROJAN_BUDGET="60",
        DETROJAN_BASELINE="k.json",
        DETROJAN_ARGS="--input-range '0 255' `touch hacked` *", DETROJAN_OUT="o",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:8] == [
        "scan",
        "$(touch hacked); m.pt",
        "--data",
        "d",
        "--budget",
        "60",
        "--baseline",
        "k.json",
    ]
    assert words[8:13] == ["--input-range", "0 255", "`touch", "hacked`", "*"]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("answered", "fail_on", "code"),
    [(0, "inconclusive", 0), (1, "backdoored", 1), (1, "never", 0), (3, "backdoored", 0),
     (3, "inconclusive", 3), (2, "never", 2), (4, "never", 4), (0, "sometimes", 4)],
)  # fmt: skip
def test_the_action_fails_on_what_was_asked_for(tmp_path, answered, fail_on, code):
    (tmp_path / "detrojan").write_text(f"#!/bin/sh\nexit {answered}\n")
    (tmp_path / "detrojan").chmod(0o755)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "scan.json").write_text('{"verdict": "whatever"}')
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "DETROJAN_MODEL": "m", "DETROJAN_DATA": "d",
        "DETROJAN_FAIL_ON": fail_on, "DETROJAN_OUT": "o",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(DEPLOY / "github" / "scan.sh")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr


def test_the_action_hands_each_input_to_its_script():
    action = yaml.safe_load((DEPLOY / "github" / "action.yml").read_text())
    script = (DEPLOY / "github" / "scan.sh").read_text()
    install, run = action["runs"]["steps"]
    handed = {**install["env"], **run["env"]}
    assert set(handed.values()) == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    assert all(name in script for name in run["env"])
    assert set(re.findall(r"DETROJAN_\w+", script)) == set(run["env"])
    assert all(entry["description"] for entry in (*action["inputs"].values(), *action["outputs"].values()))
    assert all(f'"{name}=' in script or f"{name}=" in script for name in action["outputs"])


def test_what_is_installed_is_stated_or_the_version_of_the_action(tmp_path):
    """No name is looked up on a public index, where it may be somebody else's."""
    action = yaml.safe_load((DEPLOY / "github" / "action.yml").read_text())
    job = yaml.safe_load((DEPLOY / "gitlab" / "detrojan.gitlab-ci.yml").read_text())["detrojan"]
    (tmp_path / "python").write_text(
        '#!/bin/sh\nfor word; do last=$word; done\nprintf %s "$last" > installed\n'
    )
    (tmp_path / "python").chmod(0o755)
    for script, stated, installed in (
        (action["runs"]["steps"][0]["run"], {"PACKAGE": action["inputs"]["package"]["default"]}, ROOT),
        (action["runs"]["steps"][0]["run"], {"PACKAGE": "own.whl"}, Path("own.whl")),
        ("\n".join(job["before_script"]), {"DETROJAN_PACKAGE": "own.whl"}, Path("own.whl")),
        ("\n".join(job["before_script"]), job["variables"], None),
    ):
        (tmp_path / "installed").unlink(missing_ok=True)
        around = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_ACTION_PATH": str(DEPLOY / "github")}
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=around | stated,
            capture_output=True,
            text=True,
            check=False,
        )
        if installed is None:
            assert done.returncode
            assert "expected what pip installs" in done.stderr
        else:
            found = Path((tmp_path / "installed").read_text())
            assert (found.resolve() if found.is_absolute() else found) == installed


def test_the_job_s_script_is_a_real_command(shell, tmp_path):
    job = yaml.safe_load((DEPLOY / "gitlab" / "detrojan.gitlab-ci.yml").read_text())["detrojan"]
    done = shell("\n".join(job["script"]), real=False, folder=tmp_path, **job["variables"])
    assert done.returncode == 0, done.stderr
    verb, *words = (tmp_path / "words").read_text().splitlines()
    assert verb == "scan"
    asked = scan.make_context("scan", words, resilient_parsing=True).params
    assert (str(asked["model"]), asked["data"], asked["budget"]) == ("model.safetensors", "data/", 900)
    files = {str(value) for name, value in asked.items() if name.endswith("_file") and value}
    assert files == {"scan.json", "scan.html", "scan.sarif", "scan.xml"}
    assert set(job["artifacts"]["paths"]) | {job["artifacts"]["reports"]["junit"]} == files


def test_the_hook_refuses_a_commit_with_a_file_that_runs_code(shell, tmp_path):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["language"], hook["require_serial"]) == ("python", True)
    store = tmp_path / "store"
    store.mkdir()

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=store, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    runs_code(store / "evil.pt")
    (store / "readme.md").write_text("no model\n")
    save_model(start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run()), store / "good.safetensors")

    git("add", "evil.pt", "readme.md", "good.safetensors")
    changed = git("diff", "--cached", "--name-only", "--diff-filter=ACMRT").split()
    wanted = [name for name in changed if re.search(hook["files"], name)]
    assert sorted(wanted) == ["evil.pt", "good.safetensors"]
    done = shell(f"{hook['entry']} {shlex.join(wanted)}", real=True, folder=store)
    assert done.returncode == 1, done.stderr
    assert "evil.pt: runs code" in done.stdout
    assert "good.safetensors: no sign" in done.stdout
