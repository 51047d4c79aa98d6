"""ONNX files become networks that answer what the exported network and ONNX Runtime answer."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import onnx_graphs
from detrojan.errors import MissingExtraError, ModelError, OptionError
from detrojan.models.formats.onnx import check
from detrojan.models.loading import load_model
from onnx_graphs import Attention, ChannelsLast, Residual, exported, made, runtime, settled

SHAPE = (3, 16, 16)


def _plain():
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(216, 10),
        nn.LeakyReLU(0.2), nn.Dropout(), nn.Linear(10, 4),
    )  # fmt: skip


def _kernel(*sizes, seed=0):
    return np.random.default_rng(seed).normal(size=sizes).astype(np.float32)


@pytest.fixture(params=["plain", "residual", "attention"])
def network(request):
    torch.manual_seed(4)
    made_of = {"plain": _plain, "residual": Residual, "attention": Attention}
    return settled(made_of[request.param](), SHAPE)


@pytest.mark.parametrize(("new", "dynamic"), [(False, True), (False, False), (True, True), (True, False)])
def test_an_exported_network_answers_as_before(network, new, dynamic, tmp_path, images):
    path = exported(network, tmp_path / "net.onnx", SHAPE, new=new, dynamic=dynamic)
    model = load_model(path)
    batch = images(5, *SHAPE)
    assert (model.input_shape, model.origin.format) == (SHAPE, "onnx")
    torch.testing.assert_close(model.all_logits(batch), network(batch).detach(), rtol=1e-4, atol=1e-4)
    each = batch.split(5 if dynamic else 1)
    wanted = np.concatenate([runtime(path, one.numpy())[0] for one in each])
    np.testing.assert_allclose(model.all_logits(batch), wanted, rtol=1e-4, atol=1e-4)
    assert "differ from ONNX Runtime's by at most" in model.origin.notes[0]
    assert model.head.rpartition(".")[2] in {"head", "8"}


def test_its_answers_depend_on_images_and_weights_smoothly(network, tmp_path, images):
    model = load_model(exported(network, tmp_path / "net.onnx", SHAPE))
    batch = images(3, *SHAPE).requires_grad_()
    model.logits(batch).square().sum().backward()
    assert batch.grad.abs().min(0).values.max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.network.parameters())
    names = set(dict(network.named_parameters()))
    assert len(names & set(dict(model.network.named_parameters()))) >= 2


@pytest.mark.parametrize("new", [False, True])
def test_channels_last_and_a_preprocessing_inside_the_graph(new, tmp_path, images):
    torch.manual_seed(5)
    network = settled(ChannelsLast(Residual()), SHAPE)
    path = exported(network, tmp_path / "net.onnx", (16, 16, 3), new=new)
    model = load_model(path)
    batch = images(4, *SHAPE)
    assert model.input_shape == SHAPE
    wanted = network.inner((batch - network.mean) / network.std)
    torch.testing.assert_close(model.all_logits(batch), wanted.detach(), rtol=1e-4, atol=1e-4)
    wanted = runtime(path, batch.permute(0, 2, 3, 1).numpy())[0]
    np.testing.assert_allclose(model.probabilities(batch), wanted, rtol=1e-4, atol=1e-5)
    assert "ends in a softmax, which is left out" in model.origin.notes[1]
    assert not any("mean" in name or "std" in name for name, _ in model.network.named_parameters())


@pytest.mark.parametrize("side", [16, 24])
def test_open_sizes_are_asked_for(side, tmp_path, images):
    weights = {"kernel": _kernel(4, 3, 3, 3), "head": _kernel(4, 6)}
    nodes = [
        ("Conv", ["images", "kernel"], "maps"),
        ("GlobalAveragePool", ["maps"], "means"),
        ("Flatten", ["means"], "flat"),
        ("MatMul", ["flat", "head"], "logits"),
    ]
    path = made(tmp_path / "net.onnx", nodes, weights, shape=("n", 3, "h", "w"))
    with pytest.raises(ModelError, match=r"\(open, 3, open, open\): state it with --input-shape 3xHxW"):
        load_model(path)
    with pytest.raises(
        ModelError, match=r"expected input \(open, 3, open, open\) as the file says, got \(1,"
    ):
        load_model(path, input_shape=(1, side, side))
    batch = images(2, 3, side, side)
    model = load_model(path, input_shape=(3, side, side))
    np.testing.assert_allclose(model.all_logits(batch), runtime(path, batch)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("endings", "outputs"),
    [
        ([("Softmax", ["raw"], "logits", {"axis": 1})], ("logits",)),
        ([("LogSoftmax", ["raw"], "logits", {"axis": -1})], ("logits",)),
        ([("Sigmoid", ["raw"], "logits")], ("logits",)),
        ([("Softmax", ["raw"], "p"), ("ArgMax", ["p"], "logits", {"axis": 1, "keepdims": 0})], ("logits",)),
        ([("Softmax", ["raw"], "p"), ("ArgMax", ["raw"], "best", {"axis": 1})], ("p", "best")),
        ([("Softmax", ["raw"], "p"), ("Identity", ["p"], "logits")], ("logits", "p")),
    ],
)
def test_logits_remain_of_every_ending(endings, outputs, tmp_path, images):
    weights = {"kernel": _kernel(4, 3, 3, 3), "head": _kernel(144, 6), "bias": _kernel(6)}
    nodes = [
        ("Conv", ["images", "kernel"], "maps"),
        ("Flatten", ["maps"], "flat"),
        ("Gemm", ["flat", "head", "bias"], "raw"),
    ]
    bare = made(tmp_path / "bare.onnx", nodes, weights, outputs=("raw",))
    ends = made(tmp_path / "net.onnx", [*nodes, *endings], weights, outputs=outputs)
    batch = images(3, 3, 8, 8)
    model = load_model(ends)
    np.testing.assert_allclose(model.all_logits(batch), runtime(bare, batch)[0], rtol=1e-4, atol=1e-4)
    assert "which is left out to judge its logits" in model.origin.notes[1]


def test_a_graph_for_a_fixed_number_of_images_is_asked_in_turn(tmp_path, images):
    weights = {"kernel": _kernel(4, 3, 3, 3), "shape": np.array([1, 2, 72]), "head": _kernel(144, 6)}
    nodes = [
        ("Conv", ["images", "kernel"], "maps"),
        ("Reshape", ["maps", "shape"], "halves"),
        ("ReduceMax", ["halves"], "most", {"axes": [0], "keepdims": 1}),
        ("Flatten", ["most"], "flat"),
        ("MatMul", ["flat", "head"], "logits"),
    ]
    path = made(tmp_path / "net.onnx", nodes, weights, shape=(1, 3, 8, 8))
    model = load_model(path)
    batch = images(5, 3, 8, 8)
    wanted = np.concatenate([runtime(path, one[None].numpy())[0] for one in batch])
    np.testing.assert_allclose(model.all_logits(batch), wanted, rtol=1e-4, atol=1e-4)
    assert "takes 1 images at once" in model.origin.notes[-1]


def _small(tmp_path, *nodes, weights=None, **more):
    weights = {"kernel": _kernel(4, 3, 3, 3), "head": _kernel(144, 6), **(weights or {})}
    nodes = [
        ("Conv", ["images", "kernel"], "maps"),
        ("Flatten", ["maps"], "flat"),
        *nodes,
        ("MatMul", ["flat", "head"], "logits"),
    ]
    return made(tmp_path / "net.onnx", nodes, weights, **more)


def test_short_numbers_are_computed_in_float32(tmp_path, images):
    short = {"kernel": _kernel(4, 3, 3, 3).astype(np.float16), "head": _kernel(144, 6).astype(np.float16)}
    path = _small(tmp_path, weights=short, kind=onnx.TensorProto.FLOAT16, answer=onnx.TensorProto.FLOAT16)
    model = load_model(path)
    batch = images(3, 3, 8, 8)
    assert {tensor.dtype for tensor in model.network.state_dict().values()} == {torch.float32}
    wanted = runtime(path, batch.half())[0]
    np.testing.assert_allclose(model.all_logits(batch), wanted, rtol=2e-2, atol=2e-2)


def test_whole_numbers_mean_0_to_255(tmp_path, images):
    path = made(
        tmp_path / "net.onnx",
        [
            ("Cast", ["images"], "real", {"to": 1}),
            ("Flatten", ["real"], "flat"),
            ("MatMul", ["flat", "head"], "logits"),
        ],
        {"head": _kernel(192, 6)},
        kind=onnx.TensorProto.UINT8,
    )
    model = load_model(path)
    whole = (images(3, 3, 8, 8) * 255).round()
    wanted = runtime(path, whole.byte())[0]
    np.testing.assert_allclose(model.all_logits(whole / 255), wanted, rtol=1e-4, atol=1e-2)


def test_what_the_metadata_say_is_used(tmp_path):
    names = "{0: 'stop', 1: 'yield', 2: 'a', 3: 'b', 4: 'c', 5: 'd'}"
    said = {"names": names, "mean": "[0.5, 0.4, 0.3]", "std": "0.25"}
    model = load_model(_small(tmp_path, metadata=said))
    assert model.class_names == ("stop", "yield", "a", "b", "c", "d")
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.5, 0.4, 0.3), (0.25,))
    model = load_model(_small(tmp_path, metadata={"names": "a,b", "mean": "much", "std": "1"}))
    assert model.class_names == ()
    assert model.preprocessing.mean == (0.0,)


def test_a_network_of_its_own_leaves_nothing_to_name(tmp_path):
    with pytest.raises(OptionError, match="neither --net nor --factory: an ONNX file holds its own"):
        load_model(_small(tmp_path), net="mnist_cnn")


def test_other_outputs_than_the_runtimes_are_refused(tmp_path, monkeypatch):
    path = _small(tmp_path)
    true = check.quarantined
    monkeypatch.setattr(
        check, "quarantined", lambda *given, **said: [one * 1.01 for one in true(*given, **said)]
    )
    with pytest.raises(ModelError, match="expected the outputs that ONNX Runtime computes, got others"):
        load_model(path)


def test_without_the_runtime_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda _name: None)
    model = load_model(_small(tmp_path))
    assert "not compared with ONNX Runtime" in model.origin.notes[0]


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    path = _small(tmp_path)
    monkeypatch.setitem(onnx_graphs.__dict__, "onnx", None)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[onnx\]"'):
        load_model(path)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (
            ("Det", ["flat"], "x"),
            r"node 'node_x' \(Det\): expected one of",
        ),
        (
            ("NonMaxSuppression", ["flat", "flat"], "x"),
            r"node 'node_x' \(NonMaxSuppression\): detrojan judges image classifiers, .* of detectors",
        ),
        (
            ("DequantizeLinear", ["flat", "flat"], "x"),
            r"\(DequantizeLinear\): expected a network of real num",
        ),
        (
            ("FusedConv", ["flat"], "x", {"domain": "com.microsoft"}),
            "of the standard, got one of 'com.micros",
        ),
        (("Einsum", ["flat"], "x", {"equation": "ij->k"}), r"node 'node_x' \(Einsum\): "),
    ],
)
def test_operators_that_are_not_known_are_named(node, text, tmp_path):
    more = {"imports": [onnx.helper.make_opsetid("com.microsoft", 1)]}
    path = _small(tmp_path, node, ("Add", ["flat", "x"], "y"), outputs=("logits", "y"), **more)
    with pytest.raises(ModelError, match=text):
        load_model(path)


def test_conditions_are_refused(tmp_path):
    branch = onnx.helper.make_graph([], "b", [], [onnx.helper.make_tensor_value_info("c", 1, None)])
    node = ("If", ["flat"], "x", {"then_branch": branch, "else_branch": branch})
    path = _small(tmp_path, node, outputs=("logits", "x"))
    with pytest.raises(
        ModelError, match=r"\(If\): expected (then|else)_branch to be numbers.* without conditions"
    ):
        load_model(path)


def test_functions_of_the_files_own_are_refused(tmp_path):
    own = onnx.helper.make_function(
        "mine", "F", ["a"], ["b"], [onnx.helper.make_node("Relu", ["a"], ["b"])],
        [onnx.helper.make_opsetid("", 17)],
    )  # fmt: skip
    path = _small(tmp_path, functions=[own], imports=[onnx.helper.make_opsetid("mine", 1)])
    with pytest.raises(ModelError, match="got functions of the file's own: F"):
        load_model(path)


@pytest.mark.parametrize("change", ["cut", "shape", "nan", "huge"])
def test_damaged_files_end_in_one_line(change, tmp_path):
    path = _small(tmp_path)
    model = onnx.load(path)
    kernel = model.graph.initializer[0]
    if change == "shape":
        kernel.dims[0] = 5
    if change == "nan":
        kernel.CopyFrom(onnx.numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "kernel"))
    if change == "huge":
        node = onnx.helper.make_node("ConstantOfShape", ["big"], ["zeros"], name="z")
        add = onnx.helper.make_node("Add", ["logits", "zeros"], ["sum"], name="a")
        model.graph.node.extend([node, add])
        model.graph.output[0].name = "sum"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 << 40, 6]), "big"))
    onnx.save(model, path)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert len(str(caught.value).splitlines()) == 1
