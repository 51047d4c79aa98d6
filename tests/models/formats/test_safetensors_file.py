"""Our safetensors files tell what they are; foreign ones are matched; hostile metadata is refused."""

import json

import pytest
import safetensors.torch
import torch
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.writing import save_model


def _model(name="mnist_cnn_max", shape=(1, 28, 28), classes=3, **more):
    torch.manual_seed(1)
    return Classifier(NETS[name].build(classes, shape), shape, origin=Origin(net=name), **more)


@pytest.mark.parametrize("name", NETS)
def test_our_files_need_no_name(images, tmp_path, name):
    shape = NETS[name].shape
    pre = Preprocessing(low=-1.0, high=2.0, mean=(0.25,), std=(0.5,))
    model = _model(name, shape, preprocessing=pre, class_names=("x", "y", "z"))
    again = load_model(save_model(model, tmp_path / "m.safetensors"))
    assert (again.origin.net, again.input_shape, again.origin.format) == (name, shape, "safetensors")
    assert (again.preprocessing, again.class_names) == (pre, ("x", "y", "z"))
    batch = images(3, *shape)
    assert torch.equal(again.all_logits(batch), model.all_logits(batch))


def test_arguments_go_before_the_metadata(tmp_path):
    path = save_model(_model(class_names=("x", "y", "z")), tmp_path / "m.safetensors")
    model = load_model(
        path, net="mnist_cnn", preprocessing=Preprocessing(high=9.0), class_names=("a", "b", "c")
    )
    assert (model.origin.net, model.preprocessing.high, model.class_names[0]) == ("mnist_cnn", 9.0, "a")


def test_foreign_file_with_many_numbered_layers(images, tmp_path):
    network = NETS["sign_cnn"].build(9, (3, 32, 32)).eval()
    state = {f"module.layers.{k}": v for k, v in network.state_dict().items() if "num_batches" not in k}
    safetensors.torch.save_file(state, tmp_path / "m.bin")
    model = load_model(tmp_path / "m.bin")
    assert model.origin.net == "sign_cnn"
    with torch.no_grad():
        batch = images(2, 3, 32, 32)
        torch.testing.assert_close(model.all_logits(batch), network(batch))


def _write(path, **changes):
    model = _model()
    stated = {
        "version": 1,
        "net": "mnist_cnn_max",
        "classes": 3,
        "input_shape": [1, 28, 28],
        "preprocessing": {"low": 0, "high": 1, "mean": [0], "std": [1], "layout": "NCHW"},
        "class_names": [],
    }
    text = json.dumps({**stated, **changes})
    safetensors.torch.save_file(model.network.state_dict(), path, {"detrojan": text})
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 9}, r"expected metadata of version 1, got 9"),
        ({"net": "os:system"}, r"expected --factory, .*code is run only if you name it"),
        ({"net": "alexnet"}, r"expected a network out of deepid"),
        ({"net": "deepid"}, r"do not fit deepid"),
        ({"input_shape": "wide"}, r"metadata entry 'detrojan' cannot be read"),
        ({"input_shape": [1, 28]}, r"cannot be read"),
        ({"preprocessing": {"low": 0}}, r"cannot be read"),
        (
            {"preprocessing": {"low": 0, "high": 1, "mean": [0], "std": [1], "layout": "X"}},
            r"NCHW or NHWC, got 'X'",
        ),
        (
            {"preprocessing": {"low": 0, "high": 1, "mean": [float("nan")], "std": [1], "layout": "NCHW"}},
            r"finite",
        ),
        ({"class_names": ["a"]}, r"expected 3 class names"),
    ],
)
def test_metadata_is_not_trusted(tmp_path, changes, text):
    assert load_model(_write(tmp_path / "good.safetensors")).num_classes == 3
    with pytest.raises(ModelError, match=text):
        load_model(_write(tmp_path / "m.safetensors", **changes))


def test_truncated_and_nan(tmp_path):
    path = _write(tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"damaged or cut off"):
        load_model(path)
    safetensors.torch.save_file({"w": torch.full((3, 3), torch.nan)}, path)
    with pytest.raises(WeightsError, match=r"NaN or infinite of 9 values in 'w'"):
        load_model(path)


class Twins(nn.Module):
    """Two layers of equal shape, defined in another order than the alphabet's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.wide = nn.Linear(288, 288)
        self.deep = nn.Linear(288, 288)
        self.out = nn.Linear(288, 4)

    def forward(self, images):
        return self.out(self.deep(self.wide(self.first(images).flatten(1)).relu()).relu())


def _twins(rename=lambda name: f"model.{name}", dtype=torch.bfloat16, **more):
    torch.manual_seed(5)
    network = Twins().eval()
    state = {rename(name): tensor.to(dtype) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in network.state_dict().items()})
    return network, {**state, **more}


FACTORY = {"factory": f"{__name__}:Twins", "input_shape": (3, 8, 8)}


def test_layers_of_equal_shape_are_told_by_their_names(images, tmp_path):
    network, state = _twins(**{"criterion.weight": torch.ones(4)})
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors", **FACTORY)
    batch = images(4, 3, 8, 8)
    torch.testing.assert_close(model.all_logits(batch), network(batch).detach())
    assert model.origin.notes == ()


def test_layers_of_equal_shape_under_other_names_are_refused(tmp_path):
    names = {"wide": "linear_b", "deep": "linear_a"}
    _, state = _twins(lambda name: "x." + name.replace("wide", names["wide"]).replace("deep", names["deep"]))
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=r"ambiguous match: x.linear_a, x.linear_b have the same shape"):
        load_model(tmp_path / "m.safetensors", **FACTORY)


def test_a_file_keeps_its_keys_its_types_its_metadata_and_what_else_it_holds(tmp_path):
    _, state = _twins(**{"criterion.weight": torch.ones(4)})
    state["model.out.bias"] = state["model.out.bias"].half()
    safetensors.torch.save_file(state, tmp_path / "m.safetensors", {"author": "somebody"})
    model = load_model(tmp_path / "m.safetensors", **FACTORY)
    with torch.no_grad():
        model.module("out").weight[0] = 0
    save_model(model, tmp_path / "repaired.safetensors")
    with safetensors.safe_open(tmp_path / "repaired.safetensors", "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert file.metadata()["author"] == "somebody"
    assert {key: tensor.dtype for key, tensor in found.items()} == {key: t.dtype for key, t in state.items()}
    changed = {key for key in state if not torch.equal(found[key], state[key])}
    assert changed == {"model.out.weight"}
    again = load_model(tmp_path / "repaired.safetensors", **FACTORY)
    assert torch.equal(again.module("out").weight, model.module("out").weight)
