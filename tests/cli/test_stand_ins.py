"""What `detrojan scan` does where there are no data, or where nobody knows how the network is fed."""

from __future__ import annotations

import json

import pytest

PROBE = ("--method", "latent_margin", "--format", "json")


def test_without_data_images_are_made_up_and_the_loss_is_said(world, cli):
    first, again = (cli.call("scan", world.model, "--data", "none", *PROBE) for _ in range(2))
    assert first.exit_code in {0, 1, 3}, first.output
    report = json.loads(first.stdout)
    assert report["data"]["source"] == "none"
    assert (report["data"]["images"], report["data"]["labelled"]) == (1000, False)
    (warning,) = [text for text in report["warnings"] if text.startswith("no data: made-up images stand in")]
    assert "clean accuracy is unknown" in warning
    assert "the input range and the preprocessing cannot be verified" in warning
    assert set(report["targets"]) <= {cli.TARGET}
    assert json.loads(again.stdout)["details"]["scores"] == report["details"]["scores"]


def test_mm_bd_says_the_same_without_data(world, cli):
    how = ("--method", "mm_bd", "--set", "steps=20", "--format", "json")
    without, with_data = (
        json.loads(cli.call("scan", world.model, "--data", data, *how).stdout)
        for data in ("none", world.data)
    )
    assert without["details"]["scores"] == with_data["details"]["scores"]
    assert without["verdict"] == with_data["verdict"]


@pytest.mark.parametrize("words", [("evaluate",), ("repair", "--out", "out.safetensors")])
def test_the_other_verbs_need_images(world, cli, words):
    done = cli.call(words[0], world.model, "--data", "none", *words[1:])
    assert done.exit_code == 2
    assert "there is no file or folder none" in done.stderr


def test_the_input_range_is_found_and_said(world, cli, tmp_path):
    from detrojan.models.classifier import Preprocessing  # noqa: PLC0415
    from detrojan.models.loading import load_model  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415

    wrong = load_model(world.model).with_preprocessing(Preprocessing(high=255))
    save_model(wrong, tmp_path / "wrong.safetensors")
    done = cli.call("scan", tmp_path / "wrong.safetensors", "--data", world.data, *PROBE)
    assert done.exit_code == 3
    auto = ("--input-range", "auto")
    done = cli.call("scan", tmp_path / "wrong.safetensors", "--data", world.data, *auto, *PROBE)
    assert done.exit_code in {0, 1}, done.output
    report = json.loads(done.stdout)
    assert report["model"]["preprocessing"]["high"] == 1
    (warning,) = [text for text in report["warnings"] if text.startswith("input range")]
    assert warning.startswith("input range: 0..1 chosen as the one that fits best (0..255: ")
    right = cli.call("scan", world.model, "--data", world.data, *auto, *PROBE)
    assert "input range: 0..1 chosen" in right.stderr


def test_auto_is_refused_where_there_is_nothing_to_find_the_range_by(world, cli):
    done = cli.call("scan", world.model, "--data", "none", "--input-range", "auto")
    assert done.exit_code == 4
    assert "expected real images to find the input range by" in done.stderr
    done = cli.call("scan", world.model, "--data", world.data, "--input-range", "auto", "--mean", "0.5")
    assert done.exit_code == 4
    assert "expected --input-range auto without --mean and --std" in done.stderr


@pytest.mark.parametrize("method", ["attractor", "latent_margin", "mm_bd"])
def test_scans_without_triggers_fill_every_output(world, cli, tmp_path, method):
    done = cli.call(
        "scan", world.model, "--data", world.data, "--method", method, "--set", "significance=0.5",
        "--json", tmp_path / "scan.json", "--html", tmp_path / "scan.html",
    )  # fmt: skip
    assert done.exit_code in {0, 1, 3}, done.output
    report = json.loads((tmp_path / "scan.json").read_text())
    assert {entry["size"] for entry in report["evidence"]} == {None}
    assert {entry["attack_success"] for entry in report["evidence"]} == {None}
    page = (tmp_path / "scan.html").read_text()
    assert "nan" not in page.lower().replace("finance", "")
    assert "threshold" not in page
    if report["targets"]:
        assert "the method does not recover the trigger" in page
        assert "the method does not recover the trigger" in " ".join(done.stdout.split())
