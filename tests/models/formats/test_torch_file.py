"""State dicts of all kinds, and pickles that would run code."""

import io
import os
import pickle

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, OptionError, UnsafeFileError, WeightsError
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS


class Small(nn.Module):
    """A network of a user."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.out = nn.Linear(4, 3)

    def forward(self, images):
        return self.out(self.conv(images).mean((2, 3)))


class Creates:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _net(name, classes=None, shape=None):
    torch.manual_seed(2)
    net = NETS[name]
    return net.build(classes or net.classes, shape or net.shape).eval()


def _same(model, network, images):
    batch = images(3, *model.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(model.all_logits(batch), network.eval()(batch))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".tar", ".h5", ""])
def test_found_by_content_whatever_it_is_called(images, tmp_path, suffix, legacy):
    network = _net("wrn_16_1")
    path = tmp_path / f"net{suffix}"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    model = load_model(path)
    assert (model.origin.net, model.origin.format) == ("wrn_16_1", "torch")
    _same(model, network, images)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3, "acc": 0.5},
        lambda s: {
            "net": s,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "x": {"y": torch.zeros(9)}},
        },
        lambda s: {"a": {"b": {"model": {f"module.{k}": v for k, v in s.items()}}}},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {"ema": {k: v + 1 for k, v in s.items()}, "model_state_dict": s},
        lambda s: {k: v.double() for k, v in s.items()},
        lambda s: {f"layer{i}.{k}": v for i, (k, v) in enumerate(s.items()) if "num_batches" not in k},
    ],
    ids=["state_dict", "optimizer", "deep", "prefixes", "ema", "double", "foreign_names"],
)
def test_nested_and_renamed(images, tmp_path, wrap):
    network = _net("small_vgg", classes=6)
    torch.save(wrap(network.state_dict()), tmp_path / "net.pth")
    model = load_model(tmp_path / "net.pth")
    assert (model.origin.net, model.num_classes) == ("small_vgg", 6)
    _same(model, network, images)


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_identified_by_its_tensors(tmp_path, caplog, name):
    torch.save(_net(name).state_dict(), tmp_path / "net.pt")
    model = load_model(tmp_path / "net.pt")
    assert model.origin.net == ("mnist_cnn" if name == "mnist_cnn_max" else name)
    assert model.input_shape == NETS[name].shape
    pooled = name in {"mnist_cnn", "mnist_cnn_max", "badnets_cnn"}
    assert ("average pooling; weights cannot tell it from max pooling" in caplog.text) == pooled
    (note,) = model.origin.notes
    assert f"its network is a guess, {model.origin.net} for " in note
    assert ("average pooling" in note) == pooled
    assert load_model(tmp_path / "net.pt", net=name).origin.notes == ()


@pytest.mark.parametrize(("shape", "net"), [((1, 32, 32), "mnist_cnn"), ((3, 64, 64), "badnets_cnn")])
def test_input_size_follows_from_the_weights(tmp_path, shape, net):
    torch.save(_net(net, shape=shape).state_dict(), tmp_path / "net.pt")
    assert load_model(tmp_path / "net.pt", net=net).input_shape == shape
    assert load_model(tmp_path / "net.pt").input_shape == shape


def test_given_input_shape_goes_first(tmp_path):
    torch.save(_net("mnist_cnn", shape=(1, 28, 28)).state_dict(), tmp_path / "net.pt")
    assert load_model(tmp_path / "net.pt", net="mnist_cnn", input_shape=(1, 30, 29)).input_shape == (
        1,
        30,
        29,
    )
    with pytest.raises(WeightsError, match=r"expected 7.weight \(512, 1568\), got 7.weight \(512, 512\)"):
        load_model(tmp_path / "net.pt", net="mnist_cnn", input_shape=(1, 40, 40))


def test_wrong_net_names_the_first_tensors_that_do_not_fit(tmp_path):
    torch.save(_net("wrn_16_1").state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        WeightsError, match=r"do not fit deepid: expected conv_1.weight \(20, 3, 4, 4\), got conv1.we"
    ):
        load_model(tmp_path / "net.pt", net="deepid")


def test_missing_tensor_is_named(tmp_path):
    state = _net("deepid").state_dict()
    del state["conv_2.bias"]
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(WeightsError, match=r"do not fit deepid: expected conv_2.bias \(40,\), got nothing"):
        load_model(tmp_path / "net.pt", net="deepid")
    with pytest.raises(ModelError, match=r"none of deepid, .*fits; name it with --net or --factory"):
        load_model(tmp_path / "net.pt")


def test_class_count_and_finite_weights(tmp_path):
    network = _net("deepid", classes=12)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    with pytest.raises(WeightsError, match=r"class count: expected 10 classes as asked, got 12 outputs"):
        load_model(tmp_path / "net.pt", classes=10)
    assert load_model(tmp_path / "net.pt", classes=12).num_classes == 12
    with torch.no_grad():
        network.fc_1.weight[3, 4] = float("nan")
        network.fc_1.weight[3, 5] = float("inf")
    torch.save(network.state_dict(), tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"got 2 NaN or infinite of 192000 values in 'fc_1.weight'"):
        load_model(tmp_path / "bad.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "raw2", "raw5"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, kind):
    mark, path = tmp_path / "pwned", tmp_path / "net.pt"
    content = {"state_dict": _net("deepid").state_dict(), "extra": Creates(mark)}
    if kind.startswith("raw"):
        path.write_bytes(pickle.dumps(content["extra"], protocol=int(kind[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        UnsafeFileError, match=r"would run code when read .*nothing was run.*--allow-unsafe"
    ) as caught:
        load_model(path)
    assert not mark.exists()
    if kind in {"zip", "legacy", "raw2"}:
        assert f"it calls {os.mkdir.__module__}.mkdir" in str(caught.value)


def test_allow_unsafe_runs_it(images, tmp_path, caplog):
    mark, path = tmp_path / "marked", tmp_path / "net.pt"
    network = _net("deepid")
    torch.save({"state_dict": network.state_dict(), "extra": Creates(mark)}, path)
    _same(load_model(path, allow_unsafe=True), network, images)
    assert mark.is_dir()
    assert "running the code in this file" in caplog.text


def test_whole_module(images, tmp_path):
    network, path = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)), tmp_path / "net.pt"
    torch.save({"model": network}, path)
    with pytest.raises(UnsafeFileError, match=r"it calls torch.nn.modules.container.Sequential"):
        load_model(path)
    with pytest.raises(
        ModelError, match=r"expected an input shape \(C, H, W\) for a network out of a pickle"
    ):
        load_model(path, allow_unsafe=True)
    _same(load_model(path, allow_unsafe=True, input_shape=(3, 8, 8)), network, images)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated(tmp_path, legacy, share):
    buffer = io.BytesIO()
    torch.save(_net("wrn_16_1").state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    content = buffer.getvalue()
    (tmp_path / "net.pt").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"damaged or cut off"):
        load_model(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([torch.zeros(2)], r"expected a dict of tensors, got list"),
        ({"epoch": 3, "lr": 0.1}, r"expected a dict of tensors, got dict with keys 'epoch', 'lr'"),
        ({"w": torch.zeros(3)}, r"expected a linear layer that answers the classes, got none"),
        ({"w": torch.zeros(3, 3).to_sparse()}, r"expected dense real numbers in 'w'"),
        ({"w": torch.zeros(3, 3, dtype=torch.complex64)}, r"expected dense real numbers in 'w'"),
    ],
)
def test_no_state_dict(tmp_path, content, text):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=text):
        load_model(tmp_path / "net.pt")


@pytest.fixture
def factory(tmp_path, monkeypatch):
    text = (
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))\n"
        "def nothing():\n    return 3\n"
        "def fails():\n    raise RuntimeError('no GPU')\n"
    )
    text += "def wide(size, *, classes=5):\n    assert (size, classes) == (8, 5)\n    return make()\n"
    (tmp_path / "my_nets.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_nets:make"


def test_factory(images, tmp_path, factory):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    torch.save({f"x.{k}": v for k, v in network.state_dict().items()}, tmp_path / "net.pt")
    model = load_model(tmp_path / "net.pt", factory=factory, input_shape=(3, 8, 8))
    assert model.origin.net == factory
    _same(model, network, images)
    with pytest.raises(WeightsError, match=r"class count: expected 7 classes"):
        load_model(tmp_path / "net.pt", factory=factory, input_shape=(3, 8, 8), classes=7)


def test_a_factory_takes_arguments(images, tmp_path, factory):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    spec = f"{factory.partition(':')[0]}:wide(8, classes=5)"
    _same(load_model(tmp_path / "net.pt", factory=spec, input_shape=(3, 8, 8)), network, images)


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        ("my_nets.make", OptionError, r'expected a factory as "package.module:function", got'),
        ("os; import x:y", OptionError, r'expected a factory as "package.module:function"'),
        ("no_such_module:make", ModelError, r"no_such_module:make failed: ModuleNotFoundError.*PYTHONPATH"),
        ("my_nets:other", ModelError, r"my_nets:other failed: AttributeError"),
        ("my_nets:fails", ModelError, r"my_nets:fails failed: RuntimeError: no GPU"),
        (
            "my_nets:nothing",
            ModelError,
            r"expected a torch.nn.Module from the factory my_nets:nothing, got int",
        ),
        ("my_nets:make(3", OptionError, r"expected plain values as the arguments of a factory"),
        ("my_nets:make(open('x'))", OptionError, r"expected plain values as the arguments of a factory"),
        ("my_nets:wide", ModelError, r"missing 1 required .*may follow it: --factory 'my_nets:wide\(28, cl"),
        ("my_nets:make", ModelError, r"expected an input shape \(C, H, W\) for a network made by a factory"),
    ],
)
def test_bad_factories(tmp_path, factory, spec, kind, text):
    torch.save(Small().state_dict(), tmp_path / "net.pt")
    with pytest.raises(kind, match=text):
        load_model(tmp_path / "net.pt", factory=spec)


def test_loading_leaves_the_global_random_numbers_alone(tmp_path):
    torch.save(_net("preact_resnet18").state_dict(), tmp_path / "net.pt")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(tmp_path / "net.pt")
    assert torch.equal(torch.rand(3), expected)
