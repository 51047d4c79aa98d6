"""Keras weights put into named networks, and Keras files that are hostile or damaged."""

import warnings
import zipfile

import h5py
import numpy as np
import pytest
import torch

from detrojan.errors import ModelError, UnsafeFileError, WeightsError
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS
from detrojan.models.writing import save_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _save(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (model.save_weights if "weights" in path.name else model.save)(path)
    return path


def _deepid(keras, classes=7):
    k = keras.layers
    start = keras.Input((55, 47, 3), name="input")
    x = k.MaxPooling2D(name="pool_1")(k.Conv2D(20, 4, activation="relu", name="conv_1")(start))
    x = k.MaxPooling2D(name="pool_2")(k.Conv2D(40, 3, activation="relu", name="conv_2")(x))
    third = k.MaxPooling2D(name="pool_3")(k.Conv2D(60, 3, activation="relu", name="conv_3")(x))
    first = k.Dense(160, name="fc_1")(k.Flatten()(third))
    fourth = k.Conv2D(80, 2, activation="relu", name="conv_4")(third)
    second = k.Dense(160, name="fc_2")(k.Flatten()(fourth))
    joined = k.Activation("relu")(k.Add()([first, second]))
    return keras.Model(start, k.Dense(classes, activation="softmax", name="output")(joined))


def _badnets(keras):
    k = keras.layers
    convs = [k.Conv2D(16, 5, activation="relu"), k.AveragePooling2D(2), k.Conv2D(32, 5, activation="relu")]
    dense = [
        k.AveragePooling2D(2),
        k.Flatten(),
        k.Dense(512, activation="relu"),
        k.Dense(10, activation="softmax"),
    ]
    return keras.Sequential([keras.Input((28, 28, 1)), *convs, *dense])


def _signs(keras):
    k = keras.layers

    def conv(filters):
        return [k.Conv2D(filters, 5, padding="same", activation="relu"), k.BatchNormalization()]

    layers = [*conv(32), k.MaxPooling2D(), *conv(64), *conv(128), k.MaxPooling2D(), k.Flatten()]
    layers += [k.Dense(512, activation="relu"), k.BatchNormalization(), k.Dropout(0.5), k.Dense(9, "softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers])


def _random(model):
    numbers = np.random.default_rng(4)
    model.set_weights([w + numbers.uniform(-0.05, 0.05, w.shape) for w in model.get_weights()])
    return model


def _old_weights(model, path):
    """Write weights alone as Keras 2.2 did, bytes for names and all."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{w.name}:0".encode() for w in layer.weights]
            group.attrs["weight_names"] = names
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name.decode(), data=value)
    return path


_MAKERS = {"deepid": _deepid, "mnist_cnn": _badnets, "sign_cnn": _signs}


@pytest.mark.parametrize("file", ["m.weights.h5", "old_weights.h5", "m.h5", "m.keras"])
@pytest.mark.parametrize("net", _MAKERS)
@pytest.mark.parametrize("named", [True, False])
def test_weights_fill_the_named_network(keras, images, tmp_path, net, file, named):
    if not named and "weights" not in file:
        pytest.skip("a full file describes its network itself")
    theirs = _random(_MAKERS[net](keras))
    path = tmp_path / file
    if file.startswith("old"):
        _old_weights(theirs, path)
    else:
        _save(theirs, path)
    model = load_model(path, net=net if named else None)
    batch = images(3, *model.input_shape)
    expected = theirs.predict(batch.permute(0, 2, 3, 1).numpy(), verbose=0)
    assert (model.origin.net, model.origin.format) == (net, "keras")
    np.testing.assert_allclose(model.probabilities(batch).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("file", ["m.weights.h5", "old_weights.h5", "m.keras"])
@pytest.mark.parametrize("net", ["deepid", "mnist_cnn"])
def test_changed_weights_come_back_into_plain_keras(keras, images, generator, tmp_path, net, file):
    theirs = _random(_MAKERS[net](keras))
    path = tmp_path / file
    (_old_weights if file.startswith("old") else _save)(theirs, path)
    model = load_model(path, net=net)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    written = save_model(model, tmp_path / f"new_{file}")
    fresh = _MAKERS[net](keras)
    if file.endswith(".keras"):
        fresh = keras.saving.load_model(written)
    else:
        fresh.load_weights(written)
    batch = images(3, *model.input_shape)
    got = fresh.predict(batch.permute(0, 2, 3, 1).numpy(), verbose=0)
    np.testing.assert_allclose(model.probabilities(batch).numpy(), got, atol=1e-5)
    assert torch.equal(load_model(written, net=net).all_logits(batch), model.all_logits(batch))


def test_wrong_net_class_count_and_nan(keras, tmp_path):
    theirs = _random(_deepid(keras))
    path = _old_weights(theirs, tmp_path / "m.h5")
    with pytest.raises(
        WeightsError, match=r"do not fit sign_cnn: expected 0.weight \(32, 3, 5, 5\), got conv_1.weight"
    ):
        load_model(path, net="sign_cnn")
    with pytest.raises(WeightsError, match=r"class count: expected 1283 classes as asked, got 7"):
        load_model(path, net="deepid", classes=1283)
    for name in ("m.h5", "full.h5", "full.keras"):
        kernel = theirs.get_layer("conv_2").kernel
        kernel.assign(np.full(kernel.shape, np.nan))
        _old_weights(theirs, path) if name == "m.h5" else _save(theirs, tmp_path / name)
        with pytest.raises(WeightsError, match=r"got 7200 NaN or infinite .*conv"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated(keras, tmp_path, name, share):
    path = _save(_badnets(keras), tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"damaged or cut off"):
        load_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_layers_are_refused_and_do_not_run(keras, tmp_path, suffix):
    mark = tmp_path / "pwned"
    place = str(mark)
    k = keras.layers
    act = k.Lambda(
        lambda x: (__import__("os").makedirs(place, exist_ok=True), x)[1],
        output_shape=(28, 28, 1),
        name="evil",
    )
    model = keras.Sequential([keras.Input((28, 28, 1)), act, *_badnets(keras).layers])
    path = _save(model, tmp_path / f"m{suffix}")
    mark.rmdir() if mark.exists() else None
    with pytest.raises(
        UnsafeFileError, match=r"got the Lambda 'evil': .*would run code; nothing was run.*--net"
    ):
        load_model(path, allow_unsafe=True)
    assert not mark.exists()
    assert load_model(path, net="mnist_cnn").num_classes == 10


def _h5(path, build):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv_1"]
        group = file.create_group("conv_1")
        group.attrs["weight_names"] = [b"kernel:0"]
        build(file, group, path)
    return path


def _external(file, group, path):
    group["kernel:0"] = h5py.ExternalLink("/etc/hostname", "/x")


def _soft(file, group, path):
    group["kernel:0"] = h5py.SoftLink("/elsewhere")


def _stored_outside(file, group, path):
    (path.parent / "secret.bin").write_bytes(b"\1" * 64)
    group.create_dataset("kernel:0", (2, 4), "f8", external=[(str(path.parent / "secret.bin"), 0, 64)])


def _virtual(file, group, path):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "x", (4,))
    group.create_virtual_dataset("kernel:0", layout)


def _huge(file, group, path):
    group.create_dataset("kernel:0", (100_000, 100_000), "f4", chunks=(100, 100), compression="gzip")


def _loop(file, group, path):
    group["kernel:0"] = file["/"]


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (
            _external,
            UnsafeFileError,
            r"got a link at /conv_1/kernel:0 to /etc/hostname; .*must not read other files",
        ),
        (_soft, UnsafeFileError, r"got a link at /conv_1/kernel:0"),
        (_stored_outside, UnsafeFileError, r"got /conv_1/kernel:0 stored in another file"),
        (_virtual, UnsafeFileError, r"got /conv_1/kernel:0 stored in another file"),
        (_huge, ModelError, r"expected at most \d+ bytes unpacked, got 40000000000 out of"),
        (_loop, ModelError, r"expected at most 100000 objects 32 deep, got more"),
        (
            lambda f, g, p: g.create_dataset("kernel:0", data=b"text"),
            ModelError,
            r"expected an array of numbers",
        ),
        (lambda f, g, p: None, ModelError, r"damaged or cut off"),
        (
            lambda f, g, p: g.create_dataset("kernel:0", data=np.ones(3)),
            ModelError,
            r"layer 'conv_1' with arrays \[\(3,\)",
        ),
    ],
)
def test_hostile_hdf5(tmp_path, build, kind, text):
    with pytest.raises(kind, match=text):
        load_model(_h5(tmp_path / "m.h5", build))


def test_other_hdf5_is_no_model(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"], file["label"] = np.zeros((2, 3)), np.zeros(2)
    with pytest.raises(ModelError, match=r"expected Keras weights .*got HDF5 with data, label"):
        load_model(tmp_path / "data.h5")


def test_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(80 << 20))
    with pytest.raises(ModelError, match=r"200 times the packed size, got 838\d+ bytes out of"):
        load_model(tmp_path / "m.keras")


def test_every_network_can_take_keras_weights_by_order(tmp_path):
    """Foreign layer names, all kinds of layers: the order among each kind decides."""
    network = NETS["small_vgg"].build(5, (3, 32, 32)).eval()
    with h5py.File(tmp_path / "m.h5", "w") as file:
        names = []
        for i, module in enumerate(network.modules()):
            state = {k: v.numpy() for k, v in module.state_dict().items() if "." not in k and v.ndim}
            if not state:
                continue
            names.append(f"x{i}")
            group = file.create_group(f"x{i}")
            turn = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
            for key, value in state.items():
                group[key] = value.transpose(turn[value.ndim])
            group.attrs["weight_names"] = list(state)
        file.attrs["layer_names"] = names
    model = load_model(tmp_path / "m.h5")
    assert model.origin.net == "small_vgg"
    kernel = network.classifier.weight.detach().reshape(5, 4, 4, 128).permute(0, 3, 1, 2).flatten(1)
    assert torch.equal(model.module("classifier").weight, kernel)
    assert {m.eps for m in model.network.modules() if hasattr(m, "eps")} == {1e-3}
    assert torch.equal(model.module("features.16").weight, network.features[16].weight)
