from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.calls.images import dataset
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.nets import find_net
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import save_model
from detrojan.run import Run


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


def test_a_guessed_network_is_said_in_the_report(world, cli, tmp_path):
    network = load_model(world.model).network
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    words = ("--data", world.data, "--format", "json")
    told = json.loads(cli.call("evaluate", tmp_path / "weights.pt", *words).stdout)
    (warning,) = told["warnings"]
    assert "weights.pt: its network is a guess, mnist_cnn for 1x16x16" in warning
    assert json.loads(cli.call("evaluate", world.model, *words).stdout)["warnings"] == []
    against = ("--against", tmp_path / "weights.pt", "--html", tmp_path / "page.html")
    told = json.loads(cli.call("evaluate", world.model, *against, *words).stdout)
    assert told["warnings"] == [warning]
    assert told["reference"] == str(tmp_path / "weights.pt")
    assert "its network is a guess, mnist_cnn" in (tmp_path / "page.html").read_text()
    named = cli.call("evaluate", tmp_path / "weights.pt", "--net", "mnist_cnn", *words)
    assert json.loads(named.stdout)["warnings"] == []


def test_a_detector_has_shares_of_stamped_and_of_clean_inputs(world, cli, tmp_path):
    pair = [load_model(path) for path in (world.model, world.clean)]
    save_model(n_plus_one(*pair, [cli.TARGET]), tmp_path / "detector.safetensors")
    done = cli.call(
        "evaluate", tmp_path / "detector.safetensors", "--data", world.data, "--trigger", world.trigger,
        "--target", cli.TARGET, "--html", tmp_path / "page.html", "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["caught"] == pytest.approx(told["counts"]["stamped called backdoored"] / 400)
    assert told["caught"] > 0.8
    assert told["false_alarms"] == told["counts"]["called backdoored"] / 480 < 0.1
    assert told["trigger"] == str(world.trigger)
    page = (tmp_path / "page.html").read_text()
    assert f"<dt>Stamped inputs caught</dt><dd>{100 * told['caught']:.1f}%" in page
    assert f"<dt>False alarms</dt><dd>{100 * told['false_alarms']:.1f}%" in page
    assert page.count("data:image/png") >= 4


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


def test_a_model_of_another_input_size_is_compared_on_the_same_images(world, cli, tmp_path):
    shape = (1, 20, 20)
    other = Classifier(find_net("mnist_cnn").build(6, shape), shape)
    torch.save(other.network.state_dict(), tmp_path / "other.pt")
    words = ("--against", tmp_path / "other.pt", "--samples", 90, "--seed", 3, "--format", "json")
    done = cli.call("evaluate", world.model, "--data", world.data, *words)
    assert done.exit_code == 0, done.output
    model, run = load_model(world.model), Run(seed=3)
    mine, its = (
        one.answers(dataset(world.data, samples=90, network=one, run=run).images) for one in (model, other)
    )
    assert json.loads(done.stdout)["agreement"] == pytest.approx(float((mine == its).float().mean()))
