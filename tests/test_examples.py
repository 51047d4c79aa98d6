"""Each example runs as its first lines say, and prints what it promises."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from detrojan.models.loading import load_model
from detrojan.trainers.abl import ABL
from detrojan.triggers.base import Trigger
from margins import command

pytestmark = pytest.mark.effect
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def output_of_a_process(name: str, *arguments: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def output(name: str, *arguments: str) -> str:
    """Run an example here, as Python runs a script: a process of its own would load PyTorch anew."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [str(EXAMPLES / name), *arguments])
        patch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
        patch.setattr("detrojan.tune", lambda: None)  # this process stays as it is for other tests
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        finally:
            sys.modules.pop("attack", None)
    return printed.getvalue()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """What the first example prints, and the network that the others work on."""
    path = tmp_path_factory.mktemp("attack") / "suspect.safetensors"
    return output_of_a_process("attack.py", "--out", str(path)), str(path)


def test_the_attack_plants_a_backdoor_that_works(planted):
    printed = planted[0]
    assert "300 of 2000 training images are poisoned" in printed
    shares = [float(share) for share in re.findall(r"([\d.]+)%", printed)]
    accuracy, success = shares
    assert accuracy > 85
    assert success > 85


def test_a_second_backdoor_has_a_target_of_its_own():
    printed = output("attack.py", "--second", "--images", "200", "--epochs", "1")
    assert re.findall(r"target (\d+) ", printed) == ["3", "7"]


def test_the_scan_names_the_target_and_saves_its_trigger(planted, tmp_path):
    path = tmp_path / "trigger.safetensors"
    printed = output("scan.py", planted[1], "--labels", "5", "--steps", "25", "--out", str(path))
    assert printed.startswith("backdoored: label 3 needs an abnormally small trigger (5 labels tested)")
    assert re.findall(r"label +(\d+) .*<- target", printed) == ["3"]
    assert Trigger.load(path).picture().shape == (3, 32, 32)


def test_the_repair_ends_the_attack_and_keeps_the_accuracy(planted, tmp_path):
    path = tmp_path / "repaired.safetensors"
    printed = output("repair.py", planted[1], "--labels", "6", "--steps", "24", "--out", str(path))
    assert printed.startswith("backdoored: label 3 needs an abnormally small trigger (6 labels tested)")
    assert "\nunlearn: unlearned 1 recovered trigger on 800 images: " in printed
    found = re.findall(r"(before|after) +clean accuracy +([\d.]+)%  attack success +([\d.]+)%", printed)
    (_, accuracy, success), (_, accuracy_after, success_after) = found
    assert float(success) > 85
    assert float(success_after) < 10
    assert float(accuracy_after) > float(accuracy) - 3
    assert load_model(path).input_shape == (3, 32, 32)


def test_the_guard_lets_clean_inputs_pass_and_says_how_many_stamped_ones_do(planted, tmp_path):
    printed = output("guard.py", planted[1], "--out", str(tmp_path / "guard"))
    refused, through, success, guarded = map(
        float, re.findall(r"([\d.]+)%(?! of them| instead)", printed)[-4:]
    )
    assert refused < 5
    assert success > 85
    assert guarded <= through < 95
    assert (tmp_path / "guard" / "guard.json").is_file()


def test_training_by_abl_stands_beside_plain_training(tmp_path, monkeypatch):
    """What it comes to in the full time is a test of the trainer; here it is brief."""
    monkeypatch.setattr(ABL, "_passes", lambda self, _samples: self.isolation_epochs)
    path = tmp_path / "model.safetensors"
    printed = output("train.py", "--images", "400", "--epochs", "2", "--out", str(path))
    found = re.findall(r"(plain|abl) +clean accuracy +([\d.]+)%  attack success +([\d.]+)%", printed)
    assert [name for name, *_ in found] == ["plain", "abl"]
    (isolated, right) = map(int, re.search(r"(\d+) samples were isolated, (\d+) of them", printed).groups())
    assert isolated >= 8
    assert right <= isolated
    assert load_model(path).input_shape == (3, 32, 32)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_example_says_what_it_is_and_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert f"Run: python examples/{path.name}" in text
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
