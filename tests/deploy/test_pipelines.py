"""What pipelines include: the action's script, the job and the hook really run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

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
def constant(tmp_path):
    """A network that always answers the same, and data: a scan of them is inconclusive at once."""
    model = start_net("mnist_cnn", (1, 16, 16), classes=KINDS, run=Run())
    with torch.no_grad():
        model.module(model.head).bias[2] += 1e4
    save_model(model, tmp_path / "a model.safetensors")
    images = np.random.default_rng(1).integers(0, 255, (120, 16, 16, 1)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(120) % KINDS)
    return tmp_path


def test_the_action_s_script_scans_and_gives_the_verdict(shell, constant):
    done = shell(
        f"bash {DEPLOY}/github/scan.sh", real=True, folder=constant,
        DETROJAN_MODEL="a model.safetensors", DETROJAN_DATA="images.npz",
        DETROJAN_ARGS="--method mm_bd --set samples=100",
        GITHUB_OUTPUT=str(constant / "output"), GITHUB_STEP_SUMMARY=str(constant / "summary.md"),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert (constant / "output").read_text().split("\n")[:3] == [
        "verdict=inconclusive",
        "exit-code=3",
        "sarif=detrojan-scan/scan.sarif",
    ]
    assert "Inconclusive" in (constant / "summary.md").read_text()
    assert {path.name for path in (constant / "detrojan-scan").iterdir()} == {
        "scan.json", "scan.html", "scan.sarif", "scan.xml", "scan.txt",
    }  # fmt: skip


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
