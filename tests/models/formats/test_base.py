"""A model format is one file: what lies in the package is found, and loading, saving and guards use it."""

import json
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from detrojan.cli.main import main
from detrojan.errors import MissingExtraError, ModelError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.formats.base import Content, expected, format_named, formats
from detrojan.models.loading import format_of, load_model
from detrojan.models.nets import NETS
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import save_model, usual_ending, usual_endings

TOY = '''
import numpy as np
import torch
from detrojan.extras import require
from detrojan.models.formats.base import Format
from detrojan.models.nets import find_net
from detrojan.models.weights import Loaded

class Toy(Format):
    """A network's name in a line, then its numbers."""

    name = "toy"
    kind = "a toy file (.toy)"
    listed = ((".toy", "a network's name and its numbers"),)
    suffixes = (".toy", ".toys")
    copies = True
    precedence = 5

    def recognises(self, content):
        return content.head.startswith(b"toy ")

    def read(self, path, asked, *, allow_unsafe):
        line, _, numbers = path.read_bytes().partition(b"\\n")
        if line == b"toy extra":
            require("no_such_library", extra="toy", what="toy files")
        found = self._built(line.decode())
        values = torch.from_numpy(np.frombuffer(numbers, np.float32).copy())
        torch.nn.utils.vector_to_parameters(values, found.network.parameters())
        return found

    def _built(self, line):
        net = find_net(line.split()[1])
        network = net.build(4, net.shape)
        return Loaded(network=network, input_shape=net.shape, format="toy", details={"line": line})

    def describe(self, model):
        return {"toy": model.origin.details["line"]}

    def described(self, tensors, said, asked, where):
        if "toy" not in said:
            return None
        found = self._built(said["toy"])
        found.network.load_state_dict(tensors)
        return found

    def write(self, model, path):
        values = torch.nn.utils.parameters_to_vector(model.network.parameters())
        line = model.origin.details["line"].encode()
        path.write_bytes(line + b"\\n" + values.detach().numpy().tobytes())
'''


@pytest.fixture
def toy(tmp_path, new_file):
    """A model in a format that lies in one file of its own."""
    new_file("detrojan.models.formats", "toy_file", TOY)
    torch.manual_seed(3)
    network = NETS["mnist_cnn"].build(4, (1, 28, 28))
    values = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    (tmp_path / "in.toy").write_bytes(b"toy mnist_cnn\n" + values.tobytes())
    return tmp_path / "in.toy"


def _call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_new_format_is_loaded_and_saved_as_a_copy_of_its_kind(toy, images):
    other = toy.rename(toy.with_name("whatever.h5"))
    model = load_model(other)
    assert (model.origin.format, model.num_classes) == ("toy", 4)
    batch = images(3, 1, 28, 28)
    changed = model.copy()
    with torch.no_grad():
        changed.module("9").bias[2] += 1
    out = save_model(changed, toy.with_name("out.TOYS"))
    assert torch.equal(load_model(out).all_logits(batch), changed.all_logits(batch))
    for name in ("out.pt", "out.safetensors", "out.keras"):
        with pytest.raises(ModelError, match=r"\.toy, \.toys for a model of the format toy, got 'out"):
            save_model(model, toy.with_name(name))
    other.write_bytes(b"toy other")
    with pytest.raises(ModelError, match=r"expected the original .* as it was read"):
        save_model(model, toy.with_name("again.toy"))


def test_a_new_format_is_listed_and_named_in_errors(toy):
    listed = json.loads(_call("list", "formats", "--format", "json").stdout)
    assert listed[0] == {"name": ".toy", "summary": "a network's name and its numbers"}
    toy.write_text("hello")
    with pytest.raises(ModelError, match=r"expected a model: a toy file \(\.toy\), a \.safetensors file, "):
        load_model(toy)
    toy.write_text("toy extra\n")
    with pytest.raises(MissingExtraError, match=r'which toy files need; .*pip install "detrojan\[toy\]"'):
        load_model(toy)


def test_a_model_of_a_new_format_becomes_one_of_n_plus_one_classes(toy, images):
    model = load_model(toy)
    repaired = model.copy()
    with torch.no_grad():
        repaired.module("9").bias[1] -= 9
    both = n_plus_one(model, repaired, [1])
    batch = images(20, 1, 28, 28)
    again = load_model(save_model(both, toy.with_name("both.safetensors")))
    assert torch.equal(again.all_logits(batch), both.all_logits(batch))
    with pytest.raises(ModelError, match=r"ends in \.safetensors for a model of N \+ 1 classes"):
        save_model(both, toy.with_name("both.toy"))


def test_a_guard_keeps_a_model_of_a_new_format(toy, tmp_path):
    assert ".toy" in usual_endings()
    pictures = np.random.default_rng(3).integers(0, 256, (260, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "clean.npz", images=pictures)
    words = ("guard", "calibrate", toy, "--method", "strip", "--data", tmp_path / "clean.npz")
    made = _call(*words, "--out", tmp_path / "guard")
    assert made.exit_code == 0, made.output
    assert (tmp_path / "guard" / "model.toy").is_file()
    told = _call(
        "guard", "check", tmp_path / "guard", "--data", tmp_path / "clean.npz", "--samples", 5,
        "--format", "json",
    )  # fmt: skip
    assert told.exit_code in (0, 1), told.output
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.toy").touch()
    refused = _call(*words, "--out", foreign)
    assert refused.exit_code == 2
    assert "model.toy" in refused.output


def test_formats_are_asked_in_a_fixed_order_and_have_one_name_each():
    names = [one.name for one in formats()]
    assert names == [
        "safetensors",
        "foreign",
        "foreign folder",
        "keras",
        "torch.export",
        "torchscript",
        "torch",
        "onnx",
        "huggingface",
    ]
    assert [format_named(name).name for name in names] == names
    assert format_named("memory") is format_named("toy") is None
    assert expected() == (
        "expected a model: a .safetensors file, a Keras file (.keras, .h5), "
        "a program of torch.export (.pt2), TorchScript (.pt), a PyTorch state dict (.pt, .pth, .tar), "
        "an ONNX file (.onnx) or a Hugging Face folder (config.json)"
    )


def test_a_zip_that_could_be_two_kinds_is_the_one_that_is_asked_first(tmp_path):
    with zipfile.ZipFile(tmp_path / "both", "w") as archive:
        for name in ("config.json", "model.weights.h5", "a/data.pkl"):
            archive.writestr(name, "x")
    assert format_of(tmp_path / "both").name == "keras"
    assert Content(tmp_path / "both").names == {"config.json", "model.weights.h5", "a/data.pkl"}


@pytest.mark.parametrize(
    ("origin", "ending"),
    [
        (Origin(), ".safetensors"),
        (Origin(format="torch", path="a.pt"), ".safetensors"),
        (Origin(format="keras", path="a.H5", details={"kind": "h5"}), ".h5"),
        (Origin(format="keras", path="a.weights.h5", details={"kind": "weights"}), ".weights.h5"),
        (Origin(format="keras", path="renamed", details={"kind": "keras"}), ".keras"),
    ],
)
def test_the_usual_ending_is_the_one_of_the_models_own_file(origin, ending):
    model = Classifier(NETS["mnist_cnn"].build(4, (1, 28, 28)), (1, 28, 28), origin=origin)
    assert usual_ending(model) == ending
    assert ending in usual_endings()


def test_a_model_made_in_memory_is_called_so(tmp_path):
    model = Classifier(NETS["mnist_cnn"].build(4, (1, 28, 28)), (1, 28, 28))
    with pytest.raises(ModelError, match=r"\.safetensors, \.pt, .* for a model made in memory, got 'm'"):
        save_model(model, tmp_path / "m")
