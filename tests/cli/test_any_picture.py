"""A stranger's own pictures, of another size and in colour, are the same images to every verb."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.calls.images import dataset
from detrojan.guards.bundle import load_bundle
from detrojan.jobs.inputs import load_inputs
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.run import Run
from detrojan.serve.pictures import read_picture

SAID = "are resized to 16x16 (bilinear), as is usual"
GUARD = ("--method", "strip", "--set", "copies=20", "--set", "mode=blend", "--frr", "0.1")


@pytest.fixture(scope="module")
def photos(cli, tmp_path_factory):
    """Blobs as coloured pictures of several sizes, a folder per label."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (image, label) in enumerate(zip(*cli.blobs(120, 15), strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        side = 24 + 4 * (number % 3)
        grey = Image.fromarray(image[..., 0]).resize((side, side + 2), Image.Resampling.BICUBIC)
        grey.convert("RGB").save(folder / str(label) / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def answers(world, cli, photos):
    """What `predict` answers, by the file."""
    done = cli.call("predict", world.model, "--data", photos, "--format", "json")
    assert done.exit_code == 0, done.output
    assert SAID in " ".join(done.stderr.split())
    return {row["input"]: row["label"] for row in json.loads(done.stdout)["predictions"]}


@pytest.fixture(scope="module")
def guard(world, cli, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded") / "guard"
    done = cli.call("guard", "calibrate", world.model, "--data", photos, *GUARD, "--out", folder)
    assert done.exit_code == 0, done.output
    assert SAID in " ".join(done.output.split())
    return folder


def truth(answers):
    return {file: int(file.rsplit("/", 2)[1]) for file in answers}


def test_evaluate_counts_what_predict_answers(world, cli, photos, answers):
    done = cli.call("evaluate", world.model, "--data", photos, "--format", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    right = np.mean([answers[file] == label for file, label in truth(answers).items()])
    assert right > 0.8
    assert report["clean_accuracy"] == pytest.approx(right)
    assert any(SAID in text for text in report["warnings"])


def test_a_guard_answers_alike(cli, photos, answers, guard):
    done = cli.call("guard", "check", guard, "--data", photos, "--format", "json")
    assert done.exit_code in {0, 1}, done.output
    assert {row["input"]: row["label"] for row in json.loads(done.stdout)["predictions"]} == answers


def test_a_guard_is_measured_and_explains_on_them(world, cli, photos, guard):
    words = ("--data", photos, "--trigger", world.trigger, "--target", cli.TARGET, "--format", "json")
    done = cli.call("guard", "measure", guard, *words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["attack_success"] > 0.5
    done = cli.call("guard", "explain", guard, photos / "0" / "000.png")
    assert done.exit_code in {0, 1}, done.output


def test_scan_repair_and_filter_take_them(world, cli, photos, answers, tmp_path):
    done = cli.call("scan", world.model, "--data", photos, "--method", "latent_margin", "--format", "json")
    assert done.exit_code in {0, 1, 3}, done.output
    report = json.loads(done.stdout)
    assert report["data"]["shape"] == [1, 16, 16]
    assert any(SAID in text for text in report["warnings"])
    done = cli.call(
        "repair", world.model, "--data", photos, "--method", "activation_pruning", "--blind",
        "--no-verify", "--out", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert SAID in " ".join(done.output.split()), done.output
    done = cli.call("filter", photos, "--model", world.model, "--out", tmp_path / "filtered")
    assert done.exit_code in {0, 1}, done.output
    with np.load(tmp_path / "filtered" / "kept.npz") as kept:
        assert kept["images"].shape[1:] == (16, 16, 1)


def test_python_and_the_service_see_the_same_pixels(world, photos, answers, guard):
    files = sorted(answers)
    model, data = ModelSource(model=world.model), DataSource(data=str(photos))
    inputs = load_inputs(model, data, Run())
    pictures = [Image.open(file) for file in inputs.data.files]
    held = dataset(pictures, network=inputs.model)
    assert torch.equal(held.images, inputs.data.images)
    served = load_bundle(guard).model
    for file in files[:3]:
        sent = read_picture((photos / file).read_bytes(), served)
        assert torch.equal(sent[0], inputs.data.images[inputs.data.files.index(file)])


def test_a_size_that_a_guard_was_set_up_with_is_kept(world, cli, photos, answers, tmp_path):
    how = ("--data", photos, "--resize", "16x16", *GUARD)
    done = cli.call("guard", "calibrate", world.model, *how, "--out", tmp_path / "guard")
    assert done.exit_code == 0, done.output
    assert "as is usual" not in done.output
    done = cli.call("guard", "check", tmp_path / "guard", photos / "0" / "000.png")
    assert "as the network's preprocessing says" in " ".join(done.stderr.split())
