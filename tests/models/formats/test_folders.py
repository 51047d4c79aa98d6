"""A model can be a folder: it is recognised, has one digest, is written as a folder, and a guard keeps it."""

import hashlib
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from detrojan.cli.main import main
from detrojan.errors import ModelError
from detrojan.models.loading import format_of, load_model, model_sha256
from detrojan.models.nets import NETS
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import save_model, usual_ending, usual_endings

SHELF = '''
import shutil
from pathlib import Path
from safetensors.torch import load_file, save_file
from detrojan.models.formats.base import Format
from detrojan.models.formats.state_dict import tensors_of
from detrojan.models.nets import find_net
from detrojan.models.weights import Loaded

class Shelf(Format):
    """A folder with a network's name in one file and its weights in another."""

    name = "shelf"
    kind = "a shelf (folder)"
    listed = (("shelf/", "a network's name and its weights"),)
    folder = True
    copies = True

    def recognises(self, content):
        return {"name.txt", "weights"} <= content.names

    def files(self, path):
        return path / "name.txt", path / "weights"

    def read(self, path, asked, *, allow_unsafe):
        said = {"shelf": (path / "name.txt").read_text()}
        return self.described(load_file(path / "weights"), said, asked, str(path))

    def described(self, tensors, said, asked, where):
        if "shelf" not in said:
            return None
        net = find_net(said["shelf"])
        network = net.build(4, net.shape)
        network.load_state_dict(tensors)
        return Loaded(network=network, input_shape=net.shape, format="shelf", details={"described": said})

    def write(self, model, path):
        save_file(tensors_of(model), path / "weights")
        shutil.copyfile(Path(model.origin.path) / "name.txt", path / "name.txt")
'''


@pytest.fixture
def shelf(tmp_path, new_file):
    """A model in a folder, with a file beside it that no one reads."""
    new_file("detrojan.models.formats", "shelf_file", SHELF)
    torch.manual_seed(3)
    network = NETS["mnist_cnn"].build(4, (1, 28, 28))
    folder = tmp_path / "in.v1"
    folder.mkdir()
    (folder / "name.txt").write_text("mnist_cnn")
    (folder / "notes.md").write_text("mine")
    save_file(network.state_dict(), folder / "weights")
    return folder


def _call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def _shifted(model):
    changed = model.copy()
    with torch.no_grad():
        changed.module("9").bias[2] += 1
    return changed


def test_the_digest_of_a_folder_is_that_of_the_files_that_are_used(shelf):
    files = {name: (shelf / name).read_bytes() for name in ("name.txt", "weights")}
    lines = "".join(f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in files.items())
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert load_model(shelf).origin.sha256 == model_sha256(shelf) == expected
    (shelf / "notes.md").write_text("changed")
    assert model_sha256(shelf.rename(shelf.with_name("moved"))) == expected
    (shelf.with_name("moved") / "name.txt").write_text("mnist_cnn\n")
    assert model_sha256(shelf.with_name("moved")) != expected


def test_a_folder_is_written_as_a_folder_or_as_one_file(shelf, images):
    model = load_model(shelf)
    changed, batch = _shifted(model), images(3, 1, 28, 28)
    out = save_model(changed, shelf.with_name("out.v2"))
    assert sorted(file.name for file in out.iterdir()) == ["name.txt", "weights"]
    assert (usual_ending(model), "/" in usual_endings()) == (".safetensors", False)
    one = save_model(changed, shelf.with_name("out.safetensors"))
    for path, kind in ((out, "shelf"), (one, "safetensors")):
        again = load_model(path)
        assert again.origin.format == kind
        assert torch.equal(again.all_logits(batch), changed.all_logits(batch))
        assert torch.equal(
            load_model(save_model(again, path.with_stem("b"))).all_logits(batch), changed.all_logits(batch)
        )
    with pytest.raises(ModelError, match=r"ends in \.safetensors, or the path of a folder, .*got 'out\.pt'"):
        save_model(model, shelf.with_name("out.pt"))


def test_a_folder_takes_the_place_of_a_model_only_and_leaves_other_files(shelf, tmp_path, images):
    model = load_model(shelf)
    out = save_model(model, tmp_path / "out")
    (out / "mine.txt").write_text("kept")
    save_model(_shifted(model), out)
    assert (out / "mine.txt").read_text() == "kept"
    assert not torch.equal(load_file(out / "weights")["9.bias"], load_file(shelf / "weights")["9.bias"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    (tmp_path / "a_file").touch()
    for name, text in (
        ("photos", "holds other files"),
        ("a_file", "got the file"),
        (shelf.name, "overwritten"),
    ):
        with pytest.raises(ModelError, match=text):
            save_model(model, tmp_path / name)
    (shelf / "name.txt").write_text("mnist_cnn ")
    with pytest.raises(ModelError, match=r"expected the original .* as it was read"):
        save_model(model, tmp_path / "again")


def test_a_folder_becomes_a_model_of_n_plus_one_classes(shelf, images):
    model = load_model(shelf)
    both, batch = n_plus_one(model, _shifted(model), [1]), images(20, 1, 28, 28)
    again = load_model(save_model(both, shelf.with_name("both.safetensors")))
    assert torch.equal(again.all_logits(batch), both.all_logits(batch))


def test_folders_on_the_command_line(shelf, tmp_path):
    listed = json.loads(_call("list", "formats", "--format", "json").stdout)
    assert {"name": "shelf/", "summary": "a network's name and its weights"} in listed
    pictures = np.random.default_rng(3).integers(0, 256, (260, 28, 28)).astype(np.uint8)
    data = tmp_path / "clean.npz"
    np.savez(data, images=pictures, labels=np.arange(260) % 4)
    told = _call("evaluate", shelf, "--data", data, "--format", "json")
    assert json.loads(told.stdout)["model"]["sha256"] == model_sha256(shelf)
    made = _call(
        "guard", "calibrate", shelf, "--method", "strip", "--data", data, "--out", tmp_path / "guard"
    )
    assert made.exit_code == 0, made.output
    told = _call("guard", "check", tmp_path / "guard", "--data", data, "--samples", 5)
    assert told.exit_code in (0, 1), told.output
    how = (
        "--data",
        data,
        "--blind",
        "--method",
        "fine_pruning",
        "--set",
        "epochs=1",
        "--set",
        "updates=1",
        "--no-verify",
    )
    for _ in range(2):  # the second time over the first
        told = _call("repair", shelf, *how, "--out", tmp_path / "mended")
        assert told.exit_code in (1, 3), told.output
        assert format_of(tmp_path / "mended").name == "shelf"
    for out in (shelf, tmp_path):
        told = _call("repair", shelf, *how, "--out", out)
        assert told.exit_code == 2, told.output
        assert "expected" in told.output


def test_nothing_is_written_over_a_models_folder(shelf, tmp_path):
    (shelf / "config.json").write_text("{}")
    told = _call("scan", shelf, "--data", "signs", "--json", shelf / "config.json")
    assert told.exit_code == 2
    assert "never overwritten" in told.output
    assert (shelf / "config.json").read_text() == "{}"
