"""A network that came in an ONNX file goes back into one: the same graph with other numbers."""

import numpy as np
import onnx
import pytest
import torch

from detrojan.errors import ModelError, WeightsError
from detrojan.models.loading import load_model
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import save_model, usual_ending
from onnx_graphs import Attention, ChannelsLast, Residual, exported, made, runtime, settled

SHAPE = (3, 16, 16)


def _shifted(model):
    """Return a copy with every weight and statistic a little larger."""
    changed = model.copy()
    with torch.no_grad():
        for tensor in changed.network.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.03).add_(0.01)
    return changed


@pytest.mark.parametrize("make", [Residual, Attention])
@pytest.mark.parametrize("new", [False, True])
def test_a_changed_network_is_written_as_the_same_graph(make, new, tmp_path, images):
    torch.manual_seed(6)
    path = exported(settled(ChannelsLast(make()), SHAPE), tmp_path / "net.onnx", (16, 16, 3), new=new)
    model = load_model(path)
    changed = _shifted(model)
    out = save_model(changed, tmp_path / "out.onnx")
    batch = images(4, *SHAPE)
    again = load_model(out)
    torch.testing.assert_close(again.all_logits(batch), changed.all_logits(batch), rtol=1e-5, atol=1e-5)
    wanted = runtime(out, batch.permute(0, 2, 3, 1).numpy())[0]
    np.testing.assert_allclose(changed.probabilities(batch), wanted, rtol=1e-3, atol=1e-5)
    assert float((again.all_logits(batch) - model.all_logits(batch)).abs().max()) > 0.01
    before, after = onnx.load(path), onnx.load(out)
    assert [str(node) for node in before.graph.node] == [str(node) for node in after.graph.node]
    assert {one.name for one in before.graph.initializer} == {one.name for one in after.graph.initializer}
    assert usual_ending(model) == ".onnx"


def test_an_unchanged_network_is_written_bit_for_bit(tmp_path):
    path = exported(settled(Residual(), SHAPE), tmp_path / "net.onnx", SHAPE)
    out = save_model(load_model(path), tmp_path / "out.onnx")
    assert onnx.load(out) == onnx.load(path)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_constants_and_turned_tensors_of_any_type_go_back_where_they_were(kind, tmp_path, images):
    def drawn(*sizes):
        return np.random.default_rng(len(sizes)).normal(size=sizes).astype(kind)

    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    constants = {"kernel": drawn(4, 3, 3, 3), "offset": drawn(4), "form": np.array([1, 4, 1, 1])}
    nodes = [
        *(
            ("Constant", [], name, {"value": onnx.numpy_helper.from_array(value, name)})
            for name, value in constants.items()
        ),
        ("Conv", ["images", "kernel"], "bare"),
        ("Reshape", ["offset", "form"], "spread"),
        ("Add", ["bare", "spread"], "maps"),
        ("Flatten", ["maps"], "flat"),
        ("Transpose", ["turned"], "head", {"perm": [1, 0]}),
        ("MatMul", ["flat", "head"], "raw"),
        ("Add", ["bias", "raw"], "logits"),
    ]
    weights = {"turned": drawn(6, 144), "bias": drawn(6)}
    path = made(tmp_path / "net.onnx", nodes, weights, kind=number, answer=number)
    model = load_model(path)
    state = model.network.state_dict()
    assert set(state) == {"kernel.weight", "kernel.bias", "turned.weight", "turned.bias"}
    assert tuple(state["turned.weight"].shape) == (6, 144)
    changed = _shifted(model)
    out = save_model(changed, tmp_path / "out.onnx")
    batch = images(3, 3, 8, 8)
    wide = 2e-2 if kind == np.float16 else 1e-4
    wanted = runtime(out, batch.numpy().astype(kind))[0]
    np.testing.assert_allclose(changed.all_logits(batch), wanted, rtol=wide, atol=wide)
    after = onnx.load(out)
    assert {one.data_type for one in after.graph.initializer} == {number}
    assert onnx.numpy_helper.to_array(after.graph.node[1].attribute[0].t).dtype == kind


def test_what_the_file_has_no_place_for_is_refused(tmp_path):
    path = exported(settled(Residual(), SHAPE), tmp_path / "net.onnx", SHAPE)
    model = load_model(path)
    with pytest.raises(ModelError, match=r"ends in \.onnx for a model of the format onnx, got 'out\.pt'"):
        save_model(model, tmp_path / "out.pt")
    other = model.copy()
    other.network.head = torch.nn.Linear(8, 5, bias=False)
    with pytest.raises(WeightsError, match=r"got one without \['head\.bias'\]"):
        save_model(other, tmp_path / "out.onnx")


def test_no_model_of_n_plus_one_classes_is_made_that_nobody_could_load(tmp_path):
    model = load_model(exported(settled(Residual(), SHAPE), tmp_path / "net.onnx", SHAPE))
    with pytest.raises(
        ModelError, match=r"got one out of an ONNX file .* not joined to one of N \+ 1 classes"
    ):
        n_plus_one(model, model.copy(), [1])


def test_one_tensor_used_twice_stays_one(tmp_path):
    weights = {"kernel": np.ones((3, 3, 1, 1), np.float32), "head": np.ones((192, 4), np.float32)}
    nodes = [
        ("Conv", ["images", "kernel"], "first"),
        ("Conv", ["first", "kernel"], "second"),
        ("Flatten", ["second"], "flat"),
        ("MatMul", ["flat", "head"], "logits"),
    ]
    model = load_model(made(tmp_path / "net.onnx", nodes, weights))
    assert len(list(model.network.parameters())) == 2
    changed = _shifted(model)
    assert torch.equal(*[changed.module(name).weight for name in ("kernel", "kernel_")])
    save_model(changed, tmp_path / "out.onnx")
    with torch.no_grad():
        changed.module("kernel").weight = torch.nn.Parameter(torch.zeros(3, 3, 1, 1))
    with pytest.raises(WeightsError, match="one value for kernel, which the file uses twice, got two"):
        save_model(changed, tmp_path / "again.onnx")
