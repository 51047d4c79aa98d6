from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from detrojan.report.records.filter import FilterRecord


def test_spectral_scores_are_written_with_what_is_kept(world, cli, tmp_path):
    poisoned = world.model.parent / "poisoned.npz"
    done = cli.call(
        "filter", poisoned, "--model", world.model, "--method", "spectral", "--set", "poison_rate=0.1",
        "--poisoned", poisoned, "--out", tmp_path / "o", "--format", "json",
        "--sarif", tmp_path / "o.sarif", "--prometheus", tmp_path / "o.prom",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    record = json.loads(done.stdout)
    results = json.loads((tmp_path / "o.sarif").read_text())["runs"][0]["results"]
    assert {entry["ruleId"] for entry in results} == {"data/poisoned-samples"}
    assert f'verb="filter"}} {record["flagged"]}\n' in (tmp_path / "o.prom").read_text()
    assert record == json.loads((tmp_path / "o" / "filter.json").read_text())
    assert FilterRecord.model_validate(record, strict=True).values() == record
    assert record["flagged"] == len(record["flagged_positions"]) == pytest.approx(0.15 * 1200, abs=6)
    assert 0 <= record["precision"] <= 1
    assert 0 <= record["auroc"] <= 1
    assert record["limits"] == ["15% of each class is always flagged, poisoned or not."]
    with np.load(tmp_path / "o" / "scores.npz") as scores, np.load(tmp_path / "o" / "kept.npz") as kept:
        assert scores["scores"].shape == (1200,)
        assert scores["flagged"].nonzero()[0].tolist() == sorted(record["flagged_positions"])
        assert len(kept["images"]) == 1200 - record["flagged"]
    with Image.open(tmp_path / "o" / "flagged.png") as picture:
        assert picture.width > 100


def test_clean_data_are_left_alone_by_clustering(world, cli, tmp_path):
    done = cli.call("filter", world.folder / "train.npz", "--model", world.clean, "--out", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert "0 of 1,200 samples are taken for poisoned." in done.stdout
    said = " ".join(done.stdout.split())
    assert "Nothing flagged does not mean nothing poisoned" in said
    assert "A group of 35% of its class or more is never flagged." in said
    assert len(json.loads((tmp_path / "o" / "filter.json").read_text())["limits"]) == 2
    assert not (tmp_path / "o" / "flagged.png").exists()
    with np.load(tmp_path / "o" / "kept.npz") as kept, np.load(world.folder / "train.npz") as given:
        assert (kept["images"] == given["images"]).all()


def test_without_a_model_one_is_trained_on_the_data(world, cli, tmp_path):
    done = cli.call(
        "filter", world.data, "--net", "mnist_cnn", "--epochs", 2, "--method", "spectral",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    assert "By label: 0: 12, 1: 12" in done.stdout
    assert "15% of each class is always flagged, poisoned or not." in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 4, "expected --model FILE or --net NAME"),
        (("--net", "magic"), 4, "expected a network out of"),
        (("--net", "mnist_cnn", "--method", "x"), 4, "expected one of the filters activation_clustering"),
        (("--net", "mnist_cnn", "--data", "d"), 4, "expected the data as DATA or --data, one of the two"),
        (("--net", "mnist_cnn", "--out", "{file}/o"), 2, "no folder that can be written to"),
        (("--net", "mnist_cnn", "--unlabelled"), 2, "expected labelled data for a filter"),
        (("--net", "mnist_cnn", "--set", "size=0.9"), 4, "expected a size in (0, 0.5]"),
        (
            ("--net", "mnist_cnn", "--method", "spectral", "--set", "factor=inf"),
            4,
            "expected factor as a finite number, got 'inf'",
        ),
        (("--model", "gone.safetensors"), 2, "gone.safetensors"),
    ],
)
def test_what_cannot_be_is_said(world, cli, tmp_path, words, code, says):
    given = [word.format(file=world.data) for word in words]
    done = cli.call("filter", world.data, "--out", tmp_path / "o", *given)
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


def test_the_data_may_be_named_as_for_the_other_verbs(world, cli, tmp_path):
    done = cli.call(
        "filter", "--data", world.folder / "train.npz", "--model", world.clean, "--out", tmp_path / "o"
    )
    assert done.exit_code == 0, done.output
    assert "0 of 1,200 samples are taken for poisoned." in done.stdout


def test_a_filter_of_some_samples_is_scored_on_those_and_names_them_as_the_file_does(world, cli, tmp_path):
    poisoned, out = world.model.parent / "poisoned.npz", tmp_path / "o"
    done = cli.call(
        "filter", poisoned, "--model", world.model, "--method", "spectral", "--samples", 500,
        "--poisoned", poisoned, "--out", out, "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    record = json.loads(done.stdout)
    with np.load(poisoned) as given, np.load(out / "scores.npz") as scores, np.load(out / "kept.npz") as kept:
        positions, flagged = scores["positions"], scores["flagged"]
        assert len(set(positions.tolist())) == 500
        assert (given["images"][positions[~flagged]] == kept["images"]).all()
        assert record["flagged_positions"] == scores["indices"].tolist()
        assert sorted(record["flagged_positions"]) == sorted(positions[flagged].tolist())
        bad = np.isin(positions, given["indices"])
        assert record["recall"] == pytest.approx(flagged[bad].mean())
        assert record["precision"] == pytest.approx(bad[flagged].mean())
