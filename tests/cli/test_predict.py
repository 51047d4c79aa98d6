from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def test_each_picture_gets_its_label_and_probability(world, cli, tmp_path):
    images, labels = cli.blobs(6, seed=9)
    for image, label in zip(images, labels, strict=True):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{label}.png")
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\ne\nf\n")
    done = cli.call(
        "predict", world.model, *(tmp_path / f"{k}.png" for k in range(6)), "--class-names", names,
        "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["predictions"]
    assert [row["label"] for row in rows] == list(range(6))
    assert [row["class_name"] for row in rows] == list("abcdef")
    assert all(0.3 < row["probability"] <= 1 for row in rows)


def test_pictures_of_a_folder_and_drawn_images_go_by_their_own_names(world, cli, tmp_path):
    images, labels = cli.blobs(6, seed=9)
    for image, label in zip(images, labels, strict=True):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{label}.png")
    words = ("predict", world.model, "--format", "json", "--data")
    rows = json.loads(cli.call(*words, tmp_path, "--samples", 4).stdout)["predictions"]
    assert len(rows) == 4
    for row in rows:
        assert row["input"] == str(tmp_path / f"{row['label']}.png")
    rows = json.loads(cli.call(*words, world.data, "--samples", 20).stdout)["predictions"]
    places = [int(row["input"].removeprefix(f"{world.data}[").removesuffix("]")) for row in rows]
    assert sum(place % 6 == row["label"] for place, row in zip(places, rows, strict=True)) > 16


@pytest.mark.parametrize("words", [("--crop",), ("--split", "test"), ("--samples", 3)])
def test_pictures_with_options_that_only_data_have_are_refused(world, cli, tmp_path, words):
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    done = cli.call("predict", world.model, tmp_path / "a.png", *words)
    assert done.exit_code == 4
    assert f"expected {words[0]} with --data only, got it with pictures" in done.stderr


@pytest.mark.parametrize("words", ["predict", "guard check", "guard measure", "guard calibrate"])
def test_a_verb_that_keeps_no_state_takes_no_checkpoint(cli, words):
    assert "--checkpoint" not in cli.call(*words.split(), "--help").stdout
    done = cli.call(*words.split(), "model", "--resume")
    assert done.exit_code == 4
    assert "No such option" in done.stderr


def test_data_are_answered_in_their_order(world, cli):
    done = cli.call("predict", world.model, "--data", world.data, "--format", "json")
    rows = json.loads(done.stdout)["predictions"]
    assert [row["input"] for row in rows] == [f"{world.data}[{place}]" for place in range(480)]
    right = [row["label"] == place % 6 for place, row in enumerate(rows)]
    assert sum(right) > 0.9 * 480
    shown = cli.call("predict", world.model, "--data", world.data).stdout
    assert len(re.findall(r"\d%", shown)) == 480


def test_answers_that_overflow_have_no_probability_and_it_is_said(world, cli, tmp_path):
    network = load_file(world.model)
    last = [name for name in network if name.endswith("weight")][-1]
    network[last] = network[last] * 1e38
    with safe_open(world.model, "pt") as file:
        save_file(network, tmp_path / "huge.safetensors", file.metadata())
    words = ("predict", tmp_path / "huge.safetensors", "--data", world.data, "--samples", 20)
    told = json.loads(cli.call(*words, "--format", "json").stdout)
    lost = sum(row["probability"] is None for row in told["predictions"])
    assert lost
    says = f"{lost} inputs without a probability: there the network's answers overflow"
    assert told["warnings"] == [says]
    done = cli.call(*words)
    assert done.exit_code == 0
    assert says in " ".join(done.stdout.split())


def test_a_picture_that_cannot_be_read_is_said_beside_the_answers(world, cli, tmp_path):
    Image.fromarray(cli.blobs(1, seed=9)[0][0, ..., 0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    done = cli.call("predict", world.model, tmp_path)
    assert done.exit_code == 0
    assert "good.png" in done.stdout
    assert done.stderr.count("1 of 2 pictures cannot be read and were skipped") == 1
