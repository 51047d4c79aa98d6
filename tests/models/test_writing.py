"""Models go out in the kind of file they came in."""

import pytest
import safetensors
import torch
from safetensors import SafetensorError
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS
from detrojan.models.writing import save_model


def _state(name="small_vgg", classes=4):
    torch.manual_seed(3)
    return NETS[name].build(classes, NETS[name].shape).state_dict()


def _changed(model):
    copy = model.copy()
    with torch.no_grad():
        for parameter in copy.network.parameters():
            parameter.mul_(1.5)
    return copy


def test_state_dict_keeps_its_keys_nesting_and_types(images, tmp_path):
    state = {f"module.{k}": v.half() if v.is_floating_point() else v for k, v in _state().items()}
    torch.save({"a": {"net": state}, "epoch": 1}, tmp_path / "in.pth")
    model = _changed(load_model(tmp_path / "in.pth"))
    out = save_model(model, tmp_path / "out.pth")
    written = torch.load(out, weights_only=True)
    assert list(written) == ["a", "epoch"]
    inner = written["a"]["net"]
    assert inner.keys() == state.keys()
    assert {k: v.dtype for k, v in inner.items()} == {k: v.dtype for k, v in state.items()}
    key = "module.features.0.weight"
    torch.testing.assert_close(inner[key].float(), state[key].float() * 1.5, rtol=1e-3, atol=1e-4)


def test_foreign_names_come_back(images, tmp_path):
    state = {f"l{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(_state("mnist_cnn").items())}
    torch.save(state, tmp_path / "in.pt")
    model = _changed(load_model(tmp_path / "in.pt"))
    written = torch.load(save_model(model, tmp_path / "out.pt"), weights_only=True)
    assert all(torch.equal(written[k], v * 1.5) for k, v in state.items())


def test_torch_to_safetensors_tells_its_network(images, tmp_path):
    torch.save({"net": _state()}, tmp_path / "in.pth")
    model = load_model(tmp_path / "in.pth")
    out = save_model(model, tmp_path / "out.safetensors")
    with safetensors.safe_open(out, "pt") as file:
        assert '"net": "small_vgg"' in file.metadata()["detrojan"]
    batch = images(2, 3, 32, 32)
    assert torch.equal(load_model(out).all_logits(batch), model.all_logits(batch))
    back = save_model(load_model(out), tmp_path / "back.pt")
    assert torch.equal(load_model(back).all_logits(batch), model.all_logits(batch))


def test_memory_models_are_written_too(images, tmp_path):
    network = NETS["wrn_16_1"].build(6, (3, 32, 32))
    model = Classifier(network, (3, 32, 32), origin=Origin(net="wrn_16_1"))
    batch = images(2, 3, 32, 32)
    for name in ("m.safetensors", "m.pt"):
        again = load_model(save_model(model, tmp_path / name))
        assert torch.equal(again.all_logits(batch), model.all_logits(batch))


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m.onnx", "m", "m.weights.h5"])
def test_suffix_of_another_kind(tmp_path, name):
    torch.save(_state(), tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt")
    with pytest.raises(
        ModelError, match=r"expected a path that ends in .safetensors, .pt, .*format torch, got 'm"
    ):
        save_model(model, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["in.pt"]


def test_the_original_is_never_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "in.pt"
    torch.save(_state(), path)
    before = path.read_bytes()
    model = load_model(path)
    (tmp_path / "link.pt").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for same in (path, "in.pt", tmp_path / "x" / ".." / "in.pt", "link.pt"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ModelError, match=r"which is never overwritten"):
            save_model(model, same)
    assert path.read_bytes() == before


def test_nothing_is_left_behind_after_a_failure(tmp_path, monkeypatch):
    torch.save(_state(), tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    (tmp_path / "out.pt").write_text("old")
    with pytest.raises(ModelError, match=r"out.pt cannot be written: No space left on device"):
        save_model(model, tmp_path / "out.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pt", "out.pt"]
    assert (tmp_path / "out.pt").read_text() == "old"
    with pytest.raises(ModelError, match=r"cannot be written: No such file or directory"):
        save_model(model, tmp_path / "nowhere" / "out.pt")


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail at container]\nmore"), SafetensorError("I/O")])
def test_a_full_disk_as_libraries_tell_it(error, tmp_path, monkeypatch):
    torch.save(_state(), tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt")

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match=r"out.pt cannot be written, is the disk full\? \(.+\)$"):
        save_model(model, tmp_path / "out.pt")


def test_changed_networks_and_nan_are_refused(tmp_path):
    torch.save(_state(), tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt")
    other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)), (3, 32, 32), origin=model.origin)
    with pytest.raises(WeightsError, match=r"expected the network that came out of .*in.pt, got one without"):
        save_model(other, tmp_path / "out.pt")
    with torch.no_grad():
        model.module("classifier").bias[0] = float("inf")
    with pytest.raises(WeightsError, match=r"NaN or infinite of 4 values in 'classifier.bias'"):
        save_model(model, tmp_path / "out.pt")


@pytest.fixture
def keras_path(keras, tmp_path):
    k = keras.layers
    layers = [k.Conv2D(3, 3, name="conv"), k.BatchNormalization(scale=False, name="norm"), k.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, k.Dense(4, activation="softmax", name="out")])
    model.save(tmp_path / "in.keras")
    return tmp_path / "in.keras"


@pytest.mark.filterwarnings("ignore")
def test_keras_refusals(keras_path, tmp_path):
    model = load_model(keras_path)
    for name in ("m.pt", "m.safetensors", "m.h5"):
        with pytest.raises(
            ModelError, match=r"expected a path that ends in .keras for a model of the format keras"
        ):
            save_model(model, tmp_path / name)
    changed = model.copy()
    with torch.no_grad():
        changed.module("norm").weight[0] = 2
    with pytest.raises(
        WeightsError, match=r"expected norm.weight to be 1 everywhere: the Keras file has no place"
    ):
        save_model(changed, tmp_path / "out.keras")
    smaller = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), (3, 8, 8), origin=model.origin)
    with pytest.raises(WeightsError, match=r"expected the network that came out of"):
        save_model(smaller, tmp_path / "out.keras")
    content = keras_path.read_bytes()
    keras_path.write_bytes(content + b"x")
    with pytest.raises(ModelError, match=r"as it was read \(SHA-256 .*got another file"):
        save_model(model, tmp_path / "out.keras")
    keras_path.unlink()
    with pytest.raises(
        ModelError, match=r"expected the original .*in.keras to copy its structure from, but it is gone"
    ):
        save_model(model, tmp_path / "out.keras")
    assert list(tmp_path.iterdir()) == []
