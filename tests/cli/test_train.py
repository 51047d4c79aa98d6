from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from detrojan.report.records.train import TrainRecord

QUICK = (
    "--set", "isolation_epochs=4", "--set", "epochs=4", "--set", "unlearn_epochs=6",
    "--set", "learning_rate=0.03", "--set", "batch_size=32", "--set", "shift_pixels=0",
    "--set", "isolation_rate=0.05", "--set", "isolation_updates=0",
)  # fmt: skip


def test_abl_writes_the_model_the_isolated_samples_and_the_report(world, cli, tmp_path):
    attacked = world.model.parent
    done = cli.call(
        "train", "--data", attacked / "poisoned.npz", "--net", "mnist_cnn", "--method", "abl", *QUICK,
        "--test", world.data, "--poisoned", attacked / "poisoned.npz", "--trigger", world.trigger,
        "--target", cli.TARGET, "--out", tmp_path / "o", "--format", "json", "--html", tmp_path / "page.html",
    )  # fmt: skip
    record = json.loads(done.stdout)
    works = record["attack_success"] >= 0.05
    assert done.exit_code == (1 if works else 3 if record["warnings"] else 0), done.output
    page = (tmp_path / "page.html").read_text()
    assert f"<dd>{100 * record['clean_accuracy']:.1f}%<" in page
    assert "<dd>60<small>5.0% of the samples</small>" in page
    assert "60 samples of" in page
    assert 'src="data:image/png' in page
    assert "poisoned loss" in page
    assert "<script" not in page
    assert record == json.loads((tmp_path / "o" / "train.json").read_text())
    assert TrainRecord.model_validate(record, strict=True).values() == record
    assert record["isolated"] == len(record["isolated_positions"]) == 60
    assert record["held_out"] == 480
    assert 0 <= record["steps"][0]["details"]["precision"] <= 1
    assert len(record["steps"][0]["curves"]["poisoned loss"]) == 4
    assert 0 <= record["attack_success"] <= 1
    with np.load(tmp_path / "o" / "isolated.npz") as kept, np.load(attacked / "poisoned.npz") as given:
        assert (kept["images"] == given["images"][kept["indices"]]).all()
        assert kept["indices"].tolist() == record["isolated_positions"]
    for name in ("isolated.png", "losses.png"):
        with Image.open(tmp_path / "o" / name) as picture:
            assert picture.width > 100
    told = cli.call("predict", tmp_path / "o" / "model.safetensors", "--data", world.data)
    assert told.exit_code == 0


def test_a_doubtful_isolation_is_warned_of(world, cli, tmp_path):
    """One pass over the data isolates what it happens to; nothing is unlearned, and no trigger is known."""
    done = cli.call(
        "train", "--data", world.model.parent / "poisoned.npz", "--net", "mnist_cnn", *QUICK,
        "--set", "isolation_epochs=1", "--set", "epochs=8", "--set", "unlearn_epochs=0",
        "--out", tmp_path / "o", "--html", tmp_path / "page.html",
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    record = json.loads((tmp_path / "o" / "train.json").read_text())
    (warning,) = record["warnings"]
    assert warning.startswith("what was isolated hardly stands out: the easiest samples of another label")
    assert f"have {record['steps'][0]['details']['lead']:.2g} times its loss" in warning
    assert f"Warning: {warning}" in " ".join(done.stdout.split())
    page = (tmp_path / "page.html").read_text()
    assert '<div class="verdict inconclusive">' in page
    assert f"W{warning[1:]}." in page


def test_plain_training_learns_the_task_and_the_backdoor(world, cli, tmp_path):
    done = cli.call(
        "train", "--data", world.model.parent / "poisoned.npz", "--net", "mnist_cnn", "--method", "plain",
        "--set", "epochs=10", "--set", "batch_size=32", "--set", "learning_rate=0.05",
        "--set", "shift_pixels=1",
        "--test", world.data, "--trigger", world.trigger, "--target", cli.TARGET, "--out", tmp_path / "o",
        "--html", tmp_path / "page.html",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    record = json.loads((tmp_path / "o" / "train.json").read_text())
    assert record["clean_accuracy"] > 0.9
    assert record["attack_success"] > 0.6
    assert "Trained on all 1,200 samples for 10 epochs." in done.stdout
    assert not (tmp_path / "o" / "isolated.png").exists()
    assert record["training_accuracy"] > 0.8
    share = f"{100 * record['attack_success']:.1f}%"
    says = f"the known trigger works on {share} of the images: this training has not kept the backdoor out"
    assert record["warnings"] == [says]
    assert says in " ".join(done.stdout.split())
    page = (tmp_path / "page.html").read_text()
    assert '<div class="verdict backdoored">' in page
    assert f"the known trigger still works on {share}" in page
    assert "Do not deploy this network. Train again by another --method, or repair it." in page
    assert "--net mnist_cnn --data" in page
    assert "<dt>Data</dt><dd>poisoned.npz</dd>" in page


def test_a_network_that_learned_nothing_is_warned_of(world, cli, tmp_path):
    done = cli.call(
        "train", "--data", world.data, "--net", "mnist_cnn", "--method", "plain", "--set", "epochs=1",
        "--set", "learning_rate=1e-6", "--out", tmp_path / "o", "--html", tmp_path / "page.html",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    assert '<div class="verdict inconclusive">' in (tmp_path / "page.html").read_text()
    said = " ".join(done.stdout.split())
    assert "of its own training samples: it has hardly learned; try another --set learning_rate" in said
    (warning,) = json.loads((tmp_path / "o" / "train.json").read_text())["warnings"]
    assert warning.startswith("the network is right about ")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--trigger", "gone.safetensors", "--target", 1), 2, "there is no file gone.safetensors"),
        (("--trigger", "gone.safetensors", "--target", 9), 4, "expected a target of 0 to 5, got 9"),
        (("--out", "{folder}/file/o"), 2, "no folder that can be written to"),
    ],
)
def test_what_would_fail_after_the_training_fails_before_it(
    world, cli, tmp_path, monkeypatch, words, code, says
):
    def never(*_a, **_k):
        raise AssertionError("it was trained")

    monkeypatch.setattr("detrojan.trainers.plain.Plain.train", never)
    (tmp_path / "file").write_text("")
    given = [str(word).format(folder=tmp_path) for word in words]
    done = cli.call(
        "train", "--data", world.data, "--net", "mnist_cnn", "--method", "plain", "--out", tmp_path / "o",
        *given,
    )  # fmt: skip
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


def test_what_was_trained_is_kept_where_it_cannot_be_written(world, cli, tmp_path, monkeypatch):
    words = (
        "train", "--data", world.data, "--net", "mnist_cnn", "--method", "plain", "--set", "epochs=2",
        "--out", tmp_path / "o",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("detrojan.jobs.training.save_model", lambda *_a: (_ for _ in ()).throw(OSError("full")))
        assert cli.call(*words).exit_code == 2
    assert list((tmp_path / "cache").rglob("*.safetensors"))
    done = cli.call(*words, "--resume")
    assert done.exit_code == 1, done.output  # two epochs are few: it has hardly learned
    assert (tmp_path / "o" / "train.json").is_file()
    assert "nothing to resume" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--method", "magic"), 4, "expected one of the trainers abl, plain, got 'magic'"),
        (("--net", "magic"), 4, "expected a network out of"),
        (("--set", "gamma=0"), 4, "expected gamma above 0"),
        (("--trigger", "t.safetensors"), 4, "expected --trigger FILE and --target LABEL together"),
        (("--poisoned", "{data}"), 2, "expected an .npz file with the array indices"),
        (("--poisoned", "{folder}/wrong.npz"), 2, "expected indices of 0 to 479, got 3 to 480"),
        (("--poisoned", "{folder}/float.npz"), 2, "expected indices as whole numbers (P,), got float64"),
        (("--unlabelled",), 2, "expected labelled data for training"),
        (("--out", "{data}"), 2, "expected a folder to write to"),
    ],
)
def test_what_cannot_be_is_said(world, cli, tmp_path, words, code, says):
    np.savez(tmp_path / "wrong.npz", indices=np.array([3, 480]))
    np.savez(tmp_path / "float.npz", indices=np.array([3.0]))
    places = {"data": world.data, "folder": tmp_path}
    given = [word.format(**places) for word in words]
    done = cli.call("train", "--data", world.data, "--net", "mnist_cnn", "--out", tmp_path / "o", *given)
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


def test_a_training_on_some_samples_isolates_them_by_their_positions_in_the_file(world, cli, tmp_path):
    poisoned, out = world.model.parent / "poisoned.npz", tmp_path / "o"
    done = cli.call(
        "train", "--data", poisoned, "--net", "mnist_cnn", "--samples", 500, "--poisoned", poisoned,
        "--set", "isolation_epochs=2", "--set", "epochs=1", "--set", "unlearn_epochs=1",
        "--set", "isolation_updates=0", "--set", "learning_rate=0.03", "--set", "isolation_rate=0.05",
        "--out", out, "--format", "json",
    )  # fmt: skip
    # so short a training has hardly learned, and what it isolated is doubtful
    assert done.exit_code in (1, 3), done.output
    record = json.loads(done.stdout)
    with np.load(poisoned) as given, np.load(out / "isolated.npz") as isolated:
        found = isolated["indices"]
        assert found.tolist() == record["isolated_positions"]
        assert (given["images"][found] == isolated["images"]).all()
        right = np.isin(found, given["indices"]).mean()
        stayed = [step["details"] for step in record["steps"] if not step["details"].get("undone", False)]
        told = [details["precision"] for details in stayed if "precision" in details]
        assert told[-1] == pytest.approx(right)


def test_damaged_training_images_are_an_error_and_no_reason_to_train_on_the_test_split(cli, tmp_path):
    done = cli.call(
        "train", "--data", cli.damaged_training(tmp_path / "d.npz"), "--net", "mnist_cnn",
        "--method", "plain", "--set", "epochs=1", "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    assert "array x_train: the file is truncated or damaged" in " ".join(done.output.split())
    assert not (tmp_path / "o" / "model.safetensors").exists()
