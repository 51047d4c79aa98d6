from __future__ import annotations

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from detrojan.report.records.explain import ExplainRecord
from detrojan.report.records.guard import CalibrateRecord, CheckRecord, MeasureRecord
from detrojan.triggers.base import Trigger


@pytest.fixture(scope="module")
def guard(world, cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded") / "guard"
    done = cli.call(
        "guard", "calibrate", world.model, "--data", world.data, "--frr", "0.05", "--method", "strip",
        "--set", "copies=50", "--set", "mode=blend", "--out", folder, "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert CalibrateRecord.model_validate(record, strict=True).values() == record
    assert record["inputs"] == 430
    assert record["called_backdoored"] < 0.12 * 430
    assert record["frr_low"] < record["called_backdoored"] / 430 < record["frr_high"] < 0.2
    return folder


@pytest.fixture(scope="module")
def pictures(world, cli, tmp_path_factory):
    """A clean and a stamped picture of each kind but the target's."""
    folder = tmp_path_factory.mktemp("pictures")
    images, labels = cli.blobs(6, seed=19)
    clean = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    stamped = Trigger.load(world.trigger).stamp(clean)
    for image, bad, label in zip(images, stamped, labels, strict=True):
        if label != cli.TARGET:
            Image.fromarray(image[..., 0]).save(folder / f"clean_{label}.png")
            Image.fromarray((bad[0] * 255).byte().numpy()).save(folder / f"stamped_{label}.png")
    return sorted(folder.glob("clean*")), sorted(folder.glob("stamped*"))


def test_stamped_pictures_are_called_backdoored_and_clean_ones_pass(guard, cli, pictures, tmp_path):
    clean, stamped = pictures
    done = cli.call("guard", "check", guard, *clean, *stamped, "--format", "json", "--figures", tmp_path)
    assert done.exit_code == 1, done.output
    record = json.loads(done.stdout)
    assert CheckRecord.model_validate(record, strict=True).values() == record
    rows = record["predictions"]
    assert sum(row["backdoored"] for row in rows[:5]) <= 1
    assert sum(row["backdoored"] for row in rows[5:]) >= 3
    assert all(row["label"] == cli.TARGET for row in rows if row["backdoored"])
    for name in ("scores.png", "labels.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 400
    with Image.open(guard / "scores.png") as picture:
        assert picture.width > 400


def test_as_class_answers_one_more_class(guard, cli, pictures):
    done = cli.call("guard", "check", guard, *pictures[1], "--as-class", "--format", "json")
    rows = [row for row in json.loads(done.stdout)["predictions"] if row["backdoored"]]
    assert rows
    assert {(row["label"], row["class_name"]) for row in rows} == {(6, "backdoored")}
    assert "backdoored" in cli.call("guard", "check", guard, *pictures[1]).stdout


def test_predict_with_a_guard_says_the_same(world, guard, cli, pictures):
    checked = cli.call("guard", "check", guard, *pictures[1], "--format", "json")
    told = cli.call("predict", world.model, *pictures[1], "--guard", guard, "--format", "json")
    assert told.exit_code == checked.exit_code == 1
    assert json.loads(told.stdout)["predictions"] == json.loads(checked.stdout)["predictions"]


def test_it_is_measured_on_the_backdoored_model_and_on_its_clean_twin(world, guard, cli, tmp_path):
    cli.npz(tmp_path / "test.npz", count=240)
    words = ("--data", tmp_path / "test.npz", "--trigger", world.trigger, "--target", cli.TARGET)
    done = cli.call("guard", "measure", guard, *words, "--format", "json", "--figures", tmp_path / "f")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert MeasureRecord.model_validate(found, strict=True).values() == found
    assert found["far"] < 0.3
    assert found["frr"] < 0.2  # 0.05 was asked for, of other pictures
    assert found["auroc"] > 0.93
    assert found["attack_success_guarded"] < 0.2 < found["attack_success"]
    assert (tmp_path / "f" / "labels.png").is_file()
    twin = tmp_path / "twin"
    cli.call(
        "guard", "calibrate", world.clean, "--data", world.data, "--method", "strip", "--set", "copies=50",
        "--set", "mode=blend", "--out", twin,
    )  # fmt: skip
    found = json.loads(cli.call("guard", "measure", twin, *words, "--format", "json").stdout)
    assert found["far"] > 0.9
    assert "FRR" in cli.call("guard", "measure", twin, *words).stdout


OVERFLOWING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.steep = nn.Linear(256, 6), nn.Parameter(torch.tensor(3e38))

    def forward(self, images):
        corner = images[:, 0, 0, :1]
        return self.body(images.flatten(1)) + torch.relu(corner - 1.05) * self.steep * 1e3

def make():
    torch.manual_seed(0)
    return Net()
"""


def with_corner(images):
    """Return images with a corner of 30: two of them never add up to 1.05, one and a white one do."""
    images[:, 0, 0] = 30
    return images


@pytest.fixture
def overflowing(cli, tmp_path, monkeypatch):
    """A guard of a network that overflows where a white corner is mixed with other images, and images."""
    (tmp_path / "overflowing_net.py").write_text(OVERFLOWING)
    monkeypatch.syspath_prepend(tmp_path)
    network = importlib.import_module("overflowing_net").make()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    words = ("--factory", "overflowing_net:make")
    data = cli.npz(tmp_path / "clean.npz", count=200, images=with_corner)
    done = cli.call(
        "guard", "calibrate", tmp_path / "weights.pt", *words, "--input-shape", "1x16x16",
        "--data", data, "--method", "strip", "--set", "copies=20", "--out", tmp_path / "guard",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    white = np.zeros((4, 4), np.uint8)
    white[0, 0] = 255
    Image.fromarray(white).save(tmp_path / "corner.png")
    images = np.load(data)["images"][:3].copy()
    images[:2, 0, 0] = 255
    np.savez(tmp_path / "mixed.npz", images=images)
    yield tmp_path / "guard", words
    sys.modules.pop("overflowing_net")


def test_what_overflows_is_called_backdoored_and_said_so(overflowing, cli, tmp_path):
    guard, words = overflowing
    asked = ("guard", "check", guard, "--data", tmp_path / "mixed.npz", *words)
    done = cli.call(*asked, "--format", "json", "--figures", tmp_path / "figures")
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    assert [row["entropy"] is None for row in told["predictions"]] == [True, True, False]
    assert [row["backdoored"] for row in told["predictions"]] == [True, True, False]
    says = "2 inputs called backdoored without entropy: there the network's answers overflow"
    assert told["warnings"] == [says]
    assert says in " ".join(cli.call(*asked).stdout.split())


def test_what_overflows_is_measured_as_caught(overflowing, cli, tmp_path):
    guard, words = overflowing
    data = cli.npz(tmp_path / "other.npz", count=90, images=with_corner)
    done = cli.call(
        "guard", "measure", guard, "--data", data, "--trigger", tmp_path / "corner.png",
        "--target", 0, *words, "--figures", tmp_path / "figures", "--html", tmp_path / "page.html",
        "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["far"], told["auroc"]) == (0, 1)
    (warning,) = [text for text in told["warnings"] if "overflow" in text]
    assert warning.startswith(f"{told['bad']} of {told['bad']} stamped images have no finite entropy")
    assert warning.replace("'", "&#39;") in (tmp_path / "page.html").read_text()


def test_labels_that_cannot_be_the_model_s_are_not_used(world, guard, cli, tmp_path):
    words = ("--trigger", world.trigger, "--target", cli.TARGET, "--format", "json")
    path = cli.npz(tmp_path / "strangers.npz", count=240, labels=lambda labels: labels + 50)
    done = cli.call("guard", "measure", guard, "--data", path, *words)
    assert done.exit_code == 0, done.output
    strange = json.loads(done.stdout)
    assert "the labels go up to 55, the network has 6 classes" in strange["warnings"][0]
    assert "Warning:" in cli.call("guard", "measure", guard, "--data", path, *words[:-2]).stdout
    path = cli.npz(tmp_path / "own.npz", count=240)
    usual = json.loads(cli.call("guard", "measure", guard, "--data", path, *words).stdout)
    assert usual["warnings"] == []
    same = json.loads(cli.call("guard", "measure", guard, "--data", world.data, *words).stdout)
    assert "50 of 480 clean images are among those that set the guard up" in same["warnings"][0]
    # images that the network takes for the target are not stamped
    assert abs(strange["bad"] - usual["bad"]) <= 12
    assert strange["attack_success"] == pytest.approx(usual["attack_success"], abs=0.05)


def test_the_folder_holds_the_guard_and_its_model(world, guard, cli, pictures):
    assert {path.name for path in guard.iterdir()} == {
        "guard.json", "guard.safetensors", "model.safetensors", "scores.png",
    }  # fmt: skip
    assert not any(b"pickle" in path.read_bytes() for path in guard.iterdir())
    done = cli.call("predict", world.clean, pictures[0][0], "--guard", guard)
    assert done.exit_code == 2
    assert "expected the network that the guard was calibrated for" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("check", "{guard}"), 4, "expected pictures or --data"),
        (("check", "{guard}", "gone.png"), 2, "gone.png"),
        (("check", "{folder}", "gone.png"), 2, "expected the folder of a guard"),
        (("calibrate", "{model}", "--data", "{data}", "--frr", "0.7", "--out", "o"), 4, "frr in (0, 0.5)"),
        (("calibrate", "{model}", "--data", "{data}", "--method", "x", "--out", "o"), 4, "expected one of"),
        (("calibrate", "{model}", "--data", "{data}", "--out", "{data}"), 2, "expected a folder"),
        (
            ("calibrate", "{model}", "--data", "{data}", "--out", "{data}/o"),
            2,
            "no folder that can be written",
        ),
        (("check", "{guard}", "--data", "{data}", "--figures", "{data}"), 2, "expected a folder to write to"),
        (
            ("measure", "{guard}", "--data", "{data}", "--trigger", "{trigger}", "--target", "6"),
            4,
            "expected a target of 0 to 5, got 6",
        ),
    ],
)
def test_what_cannot_be_is_said(world, guard, cli, tmp_path, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    places = {"guard": guard, "folder": tmp_path, "model": world.model, "data": world.data}
    places["trigger"] = world.trigger
    done = cli.call("guard", *(word.format(**places) for word in words))
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_guard_of_a_keras_model_keeps_its_range(cli, tmp_path, monkeypatch):
    """The range of a Keras model is stated on the command line: the guard's folder has to keep it."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    network = keras.Sequential(
        [keras.layers.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(6, activation="softmax")]
    )
    network.save(tmp_path / "model.keras")
    cli.npz(tmp_path / "data.npz", count=60)
    out = tmp_path / "guard"
    done = cli.call(
        "guard", "calibrate", tmp_path / "model.keras", "--input-range", "0-255",
        "--data", tmp_path / "data.npz", "--method", "strip", "--set", "copies=8", "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (out / "model.keras").is_file()
    np.savez(tmp_path / "one.npz", images=np.zeros((2, 16, 16, 1), np.uint8))
    done = cli.call("guard", "check", out, "--data", tmp_path / "one.npz", "--format", "json")
    assert done.exit_code in {0, 1}, done.output
    assert json.loads((out / "guard.json").read_text())["preprocessing"].startswith("0..255")


def test_pages_show_the_boundary_the_fit_and_the_figures(world, guard, cli, tmp_path):
    page, out = tmp_path / "calibrated.html", tmp_path / "guard"
    done = cli.call(
        "guard", "calibrate", world.model, "--data", world.data, "--frr", "0.05", "--method", "strip",
        "--set", "copies=10", "--out", out, "--html", page, "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record, html = json.loads(done.stdout), page.read_text()
    assert f"where its entropy is at or below {record['boundary']:.3g}" in html
    assert f"<dd>{record['called_backdoored']}<" in html
    assert f"{record['fit']['mean']:.3g}\u00a0bits" in html
    assert 'class="bar usual"' in html
    assert all(text.split(":")[0][1:] in html for text in record["warnings"])
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    words = ("--data", world.data, "--trigger", world.trigger, "--target", cli.TARGET)
    done = cli.call("guard", "measure", guard, *words, "--html", tmp_path / "m.html", "--format", "json")
    assert done.exit_code == 0, done.output
    html = (tmp_path / "m.html").read_text()
    assert f"<dd>{100 * json.loads(done.stdout)['far']:.1f}%<" in html
    assert 'class="bar flagged"' in html
    assert cli.call("guard", "measure", guard, *words, "--html", tmp_path).exit_code == 2


def test_the_folder_s_other_files_are_left_alone(world, guard, cli, tmp_path):
    """Only the model of an older guard goes, whatever else is called model there."""
    out = tmp_path / "g"
    shutil.copytree(guard, out)
    for name in ("model.tar", "model.py", "model.json", "model.h5"):
        (out / name).write_text(name)
    record = json.loads((out / "guard.json").read_text())
    for older, goes in (("model.h5", True), ("model.tar", False)):
        (out / "guard.json").write_text(json.dumps(record | {"model": record["model"] | {"file": older}}))
        words = ("calibrate", world.model, "--data", world.data, "--method", "strip", "--set", "copies=10")
        assert cli.call("guard", *words, "--out", out).exit_code == 0
        assert (out / older).exists() is not goes
    assert {path.name for path in out.glob("model.*")} == {
        "model.tar", "model.py", "model.json", "model.safetensors",
    }  # fmt: skip
    assert cli.call("guard", "check", out, "--data", world.data, "--samples", 5).exit_code in (0, 1)


def test_an_original_beside_the_guard_stays(world, cli, tmp_path):
    torch.save(safetensors.torch.load_file(world.model), tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    done = cli.call(
        "guard", "calibrate", tmp_path / "model.pt", "--net", "mnist_cnn", "--input-shape", "1x16x16",
        "--classes", 6, "--data", world.data, "--method", "strip", "--set", "copies=10", "--out", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_model_that_no_guard_has_written_is_not_replaced(world, cli, tmp_path, name):
    (tmp_path / name).write_text("mine")
    done = cli.call("guard", "calibrate", world.model, "--data", world.data, "--out", tmp_path)
    assert done.exit_code == 2
    assert f"got {tmp_path} with a {name}" in done.stderr
    assert (tmp_path / name).read_text() == "mine"


def test_what_is_turned_away_is_explained(guard, cli, pictures, tmp_path):
    clean, stamped = pictures
    done = cli.call(
        "guard", "explain", guard, *clean[:1], *stamped[:2], "--figures", tmp_path / "explained",
        "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    record = json.loads(done.stdout)
    assert ExplainRecord.model_validate(record, strict=True).values() == record
    assert record["inputs"] == 3
    found = [row for row in record["explained"] if "stamped" in row["input"]]
    marked = [row for row in found if row["region"] is not None and row["carried"] > 0.8]
    assert marked
    for row in marked:
        assert (row["label"], row["removed"] >= 0.5) == (cli.TARGET, True)
        assert 0 <= row["region"]["top"] < row["region"]["top"] + row["region"]["height"] <= 20
        with Image.open(tmp_path / "explained" / row["picture"]) as picture:
            assert picture.width > picture.height
