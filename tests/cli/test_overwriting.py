from __future__ import annotations

import os
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrojan.jobs import attacking, filtering, training


@pytest.fixture
def place(world, cli, tmp_path, monkeypatch):
    """A folder with a model, data, a trigger, pictures and class names; the work itself must not begin."""

    def never(*_a, **_k):
        raise AssertionError("the work began")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detrojan.jobs.inputs.load_model", never)
    monkeypatch.setattr("detrojan.jobs.inputs.read_data", never)
    shutil.copy(world.model, "model.safetensors")
    shutil.copy(world.data, "d.npz")
    shutil.copy(world.trigger, "trigger_0.safetensors")
    for name in ("kept.npz", "isolated.npz", "poisoned.npz", "model.h5", "names.txt"):
        Path(name).write_text(name)
    Path("scan.json").write_text('{"findings": [{"trigger": "recovered/label_3.safetensors"}]}')
    for folder in ("g", "pics", "recovered"):
        Path(folder).mkdir()
    for name in ("g/guard.json", "g/model.safetensors", "recovered/label_3.safetensors"):
        Path(name).write_text(name)
    Image.new("L", (16, 16)).save("pics/a.png")
    os.link("d.npz", "other.npz")
    Path("link.npz").symlink_to("d.npz")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "overwritten", "name"),
    [
        ("predict model.safetensors --data d.npz --json model.safetensors", "model.safetensors", "MODEL"),
        ("predict model.safetensors --data d.npz --json ./pics/../d.npz", "pics/../d.npz", "--data"),
        ("predict model.safetensors --data d.npz --json other.npz", "other.npz", "--data"),
        ("predict model.safetensors --data d.npz --json link.npz", "link.npz", "--data"),
        ("predict model.safetensors pics/a.png --json pics/a.png", "pics/a.png", "IMAGES"),
        ("predict model.safetensors --data pics --json pics/a.png", "pics/a.png", "--data"),
        ("predict model.safetensors --data d.npz --guard g --json g/guard.json", "g/guard.json", "--guard"),
        (
            "predict model.safetensors --data d.npz --class-names names.txt --json names.txt",
            "names.txt",
            "--class-names",
        ),
        ("guard check g --data d.npz --json g/model.safetensors", "g/model.safetensors", "GUARD"),
        ("guard check g --data d.npz --figures g", "g", "GUARD"),
        ("guard calibrate model.safetensors --data d.npz --out o --html d.npz", "d.npz", "--data"),
        ("guard calibrate model.h5 --data d.npz --out .", "model.h5", "MODEL"),
        ("scan model.safetensors --data d.npz --html d.npz", "d.npz", "--data"),
        (
            "repair model.safetensors --data d.npz --findings scan.json --out o.safetensors --json scan.json",
            "scan.json",
            "--findings",
        ),
        (
            "repair model.h5 --data d.npz --findings scan.json --out recovered/label_3.safetensors",
            "recovered/label_3.safetensors",
            "--findings",
        ),
        (
            "repair model.h5 --data d.npz --trigger trigger_0.safetensors:3 --out trigger_0.safetensors",
            "trigger_0.safetensors",
            "--trigger",
        ),
        (
            "evaluate model.h5 --data d.npz --trigger names.txt --target 3 --json names.txt",
            "names.txt",
            "--trigger",
        ),
        ("filter kept.npz --net mnist_cnn --out .", "kept.npz", "DATA"),
        ("filter d.npz --model d.npz --out . --poisoned kept.npz", "kept.npz", "--poisoned"),
        ("train --data isolated.npz --net mnist_cnn --out .", "isolated.npz", "--data"),
        ("train --data d.npz --test isolated.npz --net mnist_cnn --out .", "isolated.npz", "--test"),
        ("train --data pics --net mnist_cnn --out pics", "pics", "--data"),
        ("attack badnets --data poisoned.npz --out .", "poisoned.npz", "--data"),
        (
            "attack badnets --data d.npz --out . --backdoor trigger_0.safetensors:2@1,1",
            "trigger_0.safetensors",
            "--backdoor",
        ),
        ("bench table scan.json --out scan.json", "scan.json", "RESULTS"),
        ("bench run scan.json --data a=d.npz --out d.npz", "d.npz", "--data"),
    ],
)
def test_an_input_is_never_written_over(place, cli, words, overwritten, name):
    before = contents(place)
    done = cli.call(*words.split())
    assert done.exit_code == 2, done.output
    said = f"expected another path than {overwritten}: it belongs to {name}, which is never overwritten"
    assert said in done.stderr
    assert contents(place) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("scan model.safetensors --data d.npz --json a --html a", "--json and --html, got a for both"),
        (
            "train --data d.npz --net mnist_cnn --out o --html o/train.json",
            "--out and --html, got o/train.json for both",
        ),
        (
            "guard check g --data d.npz --json f/scores.png --figures f",
            "--json and --figures, got f/scores.png for both",
        ),
        (
            "repair model.safetensors --data d.npz --out o.safetensors --json pics/../o.safetensors",
            "--json and --out, got o.safetensors for both",
        ),
    ],
)
def test_two_results_in_one_file_are_refused(place, cli, words, says):
    done = cli.call(*words.split())
    assert done.exit_code == 4, done.output
    assert f"expected two files for {says}" in done.stderr


def test_results_may_replace_older_ones_and_lie_beside_their_data(world, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    Image.new("L", (16, 16)).save("pics/a.png")
    for _ in range(2):
        done = cli.call("predict", world.model, "--data", "pics", "--json", "pics/answers.json")
        assert done.exit_code == 0, done.output


def test_a_word_is_no_folder_of_data(world, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("signs").mkdir()
    done = cli.call("attack", "badnets", "--data", "signs", "--samples", 60, "--out", "signs")
    assert done.exit_code == 0, done.output


def test_what_is_written_is_what_was_looked_at(world, cli, tmp_path):
    poisoned = world.model.parent / "poisoned.npz"
    words = ("--net", "mnist_cnn", "--out")
    done = cli.call(
        "train", "--data", world.data, *words, tmp_path / "t", "--set", "isolation_epochs=1",
        "--set", "epochs=1", "--set", "unlearn_epochs=1", "--set", "isolation_updates=0",
    )  # fmt: skip
    assert done.exit_code in (0, 1, 3), done.output  # so short a training has hardly learned
    done = cli.call("filter", poisoned, *words, tmp_path / "f", "--epochs", 1, "--method", "spectral")
    assert done.exit_code == 1, done.output
    for folder, names in (
        (world.model.parent, attacking.WRITES),
        (tmp_path / "t", training.WRITES),
        (tmp_path / "f", filtering.WRITES),
    ):
        for path in folder.iterdir():
            assert any(fnmatchcase(path.name, name) for name in names), path


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that only seems to be writable")
@pytest.mark.parametrize(
    "words",
    [
        "guard calibrate model.safetensors --data d.npz --out /proc/g",
        "guard calibrate model.safetensors --data d.npz --out /proc",
        "scan model.safetensors --data d.npz --json /proc/g/scan.json",
        "demo --out /proc/g",
    ],
)
def test_a_folder_that_only_seems_to_be_writable_is_found_out(place, cli, words):
    done = cli.call(*words.split())
    assert done.exit_code == 2, done.output
    assert "is no folder that can be written to" in done.stderr


def test_a_device_takes_several_results(world, cli, tmp_path):
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 16, 16, 1), np.uint8), labels=np.array([0, 1]))
    words = ("--json", "/dev/null", "--html", "/dev/null")
    done = cli.call("evaluate", world.model, "--data", tmp_path / "d.npz", *words)
    assert done.exit_code == 0, done.output
