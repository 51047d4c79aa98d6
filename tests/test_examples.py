"""Each example runs as its first lines say, in a process of its own, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from detrojan.models.loading import load_model
from detrojan.triggers.base import Trigger
from margins import command

pytestmark = pytest.mark.effect
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def output(name: str, *arguments: str) -> str:
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


def test_the_attack_plants_two_backdoors_that_work():
    printed = output("attack.py")
    assert "300 of 2000 training images are poisoned" in printed
    shares = [float(share) for share in re.findall(r"([\d.]+)%", printed)]
    accuracy, *success = shares
    assert accuracy > 85
    assert len(success) == 2
    assert min(success) > 85


def test_the_scan_names_the_target_and_saves_its_trigger(tmp_path):
    path = tmp_path / "trigger.safetensors"
    printed = output("scan.py", "--labels", "5", "--steps", "25", "--out", str(path))
    assert printed.startswith("backdoored: label 3 needs an abnormally small trigger (5 labels tested)")
    assert re.findall(r"label +(\d+) .*<- target", printed) == ["3"]
    assert Trigger.load(path).picture().shape == (3, 32, 32)


def test_the_repair_ends_the_attack_and_keeps_the_accuracy(tmp_path):
    path = tmp_path / "repaired.safetensors"
    printed = output("repair.py", "--steps", "24", "--out", str(path))
    assert printed.startswith("backdoored: label 3 needs an abnormally small trigger (6 labels tested)")
    assert "\nunlearn: unlearned 1 recovered trigger on 800 images: " in printed
    judged = re.findall(r"(before|after) +clean accuracy +([\d.]+)%  attack success +([\d.]+)%", printed)
    (_, accuracy, success), (_, accuracy_after, success_after) = judged
    assert float(success) > 85
    assert float(success_after) < 10
    assert float(accuracy_after) > float(accuracy) - 3
    assert load_model(path).input_shape == (3, 32, 32)


def test_the_guard_notices_stamped_inputs_and_lets_clean_ones_pass(tmp_path):
    printed = output("guard.py", "--out", str(tmp_path / "guard"))
    refused, through, success, guarded = map(
        float, re.findall(r"([\d.]+)%(?! of them| instead)", printed)[-4:]
    )
    assert refused < 3
    assert success > 85
    assert through < 30
    assert guarded < 30
    assert (tmp_path / "guard" / "guard.json").is_file()


def test_training_by_abl_learns_the_task_without_the_backdoor(tmp_path):
    path = tmp_path / "model.safetensors"
    printed = output("train.py", "--epochs", "8", "--out", str(path))
    found = re.findall(r"(plain|abl) +clean accuracy +([\d.]+)%  attack success +([\d.]+)%", printed)
    (_, accuracy, success), (_, accuracy_abl, success_abl) = found
    assert float(success) > 85
    assert float(success_abl) < 20
    assert float(accuracy_abl) > float(accuracy) - 3
    (isolated, right) = map(int, re.search(r"(\d+) samples were isolated, (\d+) of them", printed).groups())
    assert isolated >= 30
    assert right > 0.85 * isolated
    assert load_model(path).input_shape == (3, 32, 32)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_example_says_what_it_is_and_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert f"Run: python examples/{path.name}" in text
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
