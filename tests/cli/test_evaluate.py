from __future__ import annotations

import json

import numpy as np
from PIL import Image


def test_accuracy_and_attack_success_are_those_of_the_attack(world, cli):
    done = cli.call(
        "evaluate", world.model, "--data", world.data, "--trigger", world.trigger, "--target", cli.TARGET,
        "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((world.model.parent / "attack.json").read_text())
    measured = json.loads(done.stdout)
    assert measured["clean_accuracy"] == record["clean_accuracy"]
    assert measured["attack_success"] == record["backdoors"][0]["attack_success"]
    assert measured["counts"] == {"images": 480, "stamped": 400}


def test_untargeted_success_counts_every_wrong_answer(world, cli):
    words = ("evaluate", world.model, "--data", world.data, "--trigger", world.trigger, "--format", "json")
    aimed = json.loads(cli.call(*words, "--target", cli.TARGET).stdout)
    free = json.loads(cli.call(*words, "--untargeted").stdout)
    assert free["counts"]["stamped"] == 480
    assert free["attack_success"] >= aimed["attack_success"] * 400 / 480 - 1e-6


def test_labels_beyond_the_model_are_an_error_unless_they_are_left_out(world, cli, tmp_path):
    path = cli.npz(tmp_path / "strangers.npz", labels=lambda labels: labels + 50)
    done = cli.call("evaluate", world.model, "--data", path)
    assert done.exit_code == 2
    assert "the labels go up to 55, the network has 6 classes" in " ".join(done.stderr.split())
    done = cli.call("evaluate", world.model, "--data", path, "--against", world.clean, "--format", "json")
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)
    assert measured["clean_accuracy"] is None
    assert measured["agreement"] > 0.9


def test_a_picture_with_alpha_is_a_trigger(world, cli, tmp_path):
    Image.fromarray(np.zeros((2, 2, 4), np.uint8)).save(tmp_path / "clear.png")
    words = (
        "evaluate",
        world.model,
        "--data",
        world.data,
        "--trigger",
        tmp_path / "clear.png",
        "--format",
        "json",
    )
    done = cli.call(*words, "--target", 0, "--at", "3,4")
    assert json.loads(done.stdout)["attack_success"] < 0.05
    done = cli.call(*words, "--target", 0, "--at", "15,15")
    assert done.exit_code == 2
    assert "that fits into 16x16 at row 15, column 15" in " ".join(done.stderr.split())
    done = cli.call(*words, "--target", 6)
    assert "expected a target of 0 to 5, got 6" in done.stderr
