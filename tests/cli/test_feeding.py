"""Every verb that asks a network notices that it is fed wrongly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detrojan.models.loading import load_model
from detrojan.models.writing import save_model


@pytest.fixture
def raw(world, tmp_path):
    """A network of 0..255 whose file states 0..1."""
    model = load_model(world.clean)
    first = next(module for module in model.network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight /= 255
    return save_model(model, tmp_path / "raw.safetensors")


def test_a_guard_is_not_calibrated_on_a_network_that_is_fed_wrongly(world, cli, raw, tmp_path):
    words = (
        "guard",
        "calibrate",
        raw,
        "--method",
        "strip",
        "--data",
        world.data,
        "--out",
        tmp_path / "guard",
    )
    done = cli.call(*words)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "the network is fed 0..1, but behaves as if trained on 0..255" in said
    assert "state it with --input-range 0:255" in said
    assert not list(tmp_path.glob("guard/*"))
    for flag in (("--input-range", "0-255"), ("--preprocess", "bytes"), ("--preprocess", "auto")):
        done = cli.call(*words[:-1], tmp_path / flag[1], *flag)
        assert done.exit_code == 0, done.output
    assert "preprocessing: 0..255 chosen as the one that fits best" in " ".join(done.stdout.split())


def test_evaluate_and_predict_warn(world, cli, raw):
    done = cli.call("evaluate", raw, "--data", world.data, "--format", "json")
    assert done.exit_code == 0
    (warning,) = json.loads(done.stdout)["warnings"]
    assert "behaves as if trained on 0..255" in warning
    done = cli.call("predict", raw, "--data", world.data, "--format", "json")
    assert any("--input-range 0:255" in text for text in json.loads(done.stdout)["warnings"])
    assert "--input-range 0:255" in " ".join(done.stderr.split())
    found = cli.call("evaluate", raw, "--data", world.data, "--preprocess", "auto", "--format", "json")
    report = json.loads(found.stdout)
    assert report["model"]["preprocessing"]["high"] == 255
    assert report["clean_accuracy"] > 0.9


def test_an_accuracy_at_chance_is_warned_of(world, cli, tmp_path):
    images, labels = cli.blobs(120, seed=5)
    np.savez(tmp_path / "turned.npz", images=images, labels=(labels + 1) % 6)
    for verb in (("evaluate",), ("scan", "--method", "latent_margin")):
        words = (verb[0], world.clean, "--data", tmp_path / "turned.npz", *verb[1:], "--format", "json")
        report = json.loads(cli.call(*words).stdout)
        (warning,) = [text for text in report["warnings"] if text.startswith("accuracy at chance level")]
        assert "the classes may stand in another order" in warning


def test_colour_is_made_grey_with_a_warning_unless_it_is_asked_for(world, cli, tmp_path):
    images, labels = cli.blobs(120, seed=5)
    np.savez(tmp_path / "colour.npz", images=images.repeat(3, axis=3), labels=labels)
    words = ("evaluate", world.clean, "--data", tmp_path / "colour.npz", "--format", "json")
    unasked = json.loads(cli.call(*words).stdout)
    assert unasked["warnings"] == ["colour made grey, since the network takes grey images"]
    report = json.loads(cli.call(*words, "--channels", "grey").stdout)
    assert "colour made grey" in report["data"]["notes"]
    assert report["warnings"] == []
    assert report["clean_accuracy"] == unasked["clean_accuracy"]
    assert report["clean_accuracy"] > 0.9


def test_a_file_says_how_the_network_is_fed(world, cli, raw, tmp_path):
    stated = tmp_path / "pre.json"
    stated.write_text(json.dumps({"range": [0, 255]}))
    words = ("evaluate", raw, "--data", world.data, "--format", "json", "--preprocess")
    report = json.loads(cli.call(*words, stated).stdout)
    assert report["model"]["preprocessing"]["high"] == 255
    assert report["warnings"] == []
    done = cli.call(*words, "nothing.json")
    assert done.exit_code == 4
    assert "expected a preprocessing out of unit, bytes, imagenet" in " ".join(done.stderr.split())
