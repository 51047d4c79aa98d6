from __future__ import annotations

import json
import re

from PIL import Image


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


def test_pictures_of_another_size_are_refused_with_the_way_out(world, cli, tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / "big.png")
    done = cli.call("predict", world.model, tmp_path / "big.png")
    assert done.exit_code == 2
    assert "bring them to it with --resize 16x16" in " ".join(done.stderr.split())
    assert cli.call("predict", world.model, tmp_path / "big.png", "--resize", "16x16").exit_code == 0


def test_data_are_answered_in_their_order(world, cli):
    done = cli.call("predict", world.model, "--data", world.data, "--format", "json")
    rows = json.loads(done.stdout)["predictions"]
    assert [row["input"] for row in rows] == [f"{world.data}[{place}]" for place in range(480)]
    right = [row["label"] == place % 6 for place, row in enumerate(rows)]
    assert sum(right) > 0.9 * 480
    shown = cli.call("predict", world.model, "--data", world.data).stdout
    assert len(re.findall(r"\d%", shown)) == 480
