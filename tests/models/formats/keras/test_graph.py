"""Our graph against real Keras, layer by layer, in both of its file formats."""

import io
import json
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _randomise(model, seed=0):
    """Give every array values away from what layers begin with, variances among them."""
    numbers = np.random.default_rng(seed)
    model.set_weights(
        [numbers.uniform(0.05, 0.4, w.shape) - (0.2 if w.ndim > 1 else 0) for w in model.get_weights()]
    )
    return model


def _save(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def _answers(model, images):
    return np.asarray(model.predict(images.permute(0, 2, 3, 1).numpy(), verbose=0))


def _sequential(keras, *layers, shape=(9, 8, 3), end="softmax"):
    layer = keras.layers
    return keras.Sequential([keras.Input(shape), *layers, layer.Flatten(), layer.Dense(4, activation=end)])


def _cases(keras):
    k = keras.layers
    yield "conv", lambda: [k.Conv2D(5, 3, activation="relu"), k.MaxPooling2D()]
    yield "conv_same_even_kernel", lambda: [k.Conv2D(5, (4, 2), padding="same")]
    yield "conv_same_strided", lambda: [k.Conv2D(5, 3, strides=2, padding="same", use_bias=False)]
    yield "conv_dilated", lambda: [k.Conv2D(5, 3, dilation_rate=2, padding="same"), k.ELU()]
    yield "conv_groups", lambda: [k.Conv2D(6, 3, groups=3, activation="tanh")]
    yield "depthwise", lambda: [k.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="gelu")]
    yield "separable", lambda: [k.SeparableConv2D(5, 3, depth_multiplier=2, activation="silu")]
    yield "pool_same", lambda: [k.MaxPooling2D(2, padding="same"), k.AveragePooling2D(3, 1, padding="same")]
    yield "average_pool", lambda: [k.AveragePooling2D((2, 3))]
    yield "norm", lambda: [k.Conv2D(5, 3), k.BatchNormalization(), k.ReLU(max_value=0.3)]
    yield (
        "norm_without_scale",
        lambda: [k.BatchNormalization(scale=False), k.BatchNormalization(center=False)],
    )
    yield "norm_flat", lambda: [k.Flatten(), k.Dense(6), k.BatchNormalization(), k.LeakyReLU(0.1)]
    yield "relu_general", lambda: [k.Conv2D(5, 3), k.ReLU(max_value=0.4, negative_slope=0.1, threshold=0.05)]
    yield "global_average", lambda: [k.Conv2D(5, 3), k.GlobalAveragePooling2D()]
    yield "global_max", lambda: [k.Conv2D(5, 3), k.GlobalMaxPooling2D(keepdims=True)]
    yield "rescaling", lambda: [k.Rescaling([1.5, 2.0, 0.5], offset=-0.5), k.ZeroPadding2D(((1, 2), (0, 3)))]
    yield "dropouts", lambda: [k.Dropout(0.5), k.SpatialDropout2D(0.5), k.GaussianNoise(1.0)]
    yield "reshape", lambda: [k.Reshape((8, 9, 3)), k.Conv2D(2, 3), k.Reshape((-1,)), k.Dense(5)]


_NAMES = [
    *("conv", "conv_same_even_kernel", "conv_same_strided", "conv_dilated", "conv_groups", "depthwise"),
    *("separable", "pool_same", "average_pool", "norm", "norm_without_scale", "norm_flat", "relu_general"),
    *("global_average", "global_max", "rescaling", "dropouts", "reshape"),
]


def test_every_case_is_run(keras):
    assert [name for name, _ in _cases(keras)] == _NAMES


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", _NAMES)
def test_answers_as_keras_does(keras, images, tmp_path, name, suffix):
    model = _randomise(_sequential(keras, *dict(_cases(keras))[name]()))
    ours = load_model(_save(model, tmp_path / f"m{suffix}"))
    batch = images(6, 3, 9, 8)
    assert ours.input_shape == (3, 9, 8)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _answers(model, batch), atol=1e-5)


def test_average_pool_padded_on_one_side_counts_no_padding(keras, tmp_path):
    # TensorFlow's way; Keras on the torch backend repeats the border here, against its own definition
    k = keras.layers
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), k.AveragePooling2D(3, 2, padding="same"), k.Flatten(), k.Dense(4)]
    )
    model.set_weights([np.eye(4), np.zeros(4)])
    ours = load_model(_save(model, tmp_path / "m.keras"))
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    rows = [slice(0, 3), slice(2, 4)]
    expected = [float(image[0, 0, r, c].mean()) for r in rows for c in rows]
    np.testing.assert_allclose(ours.all_logits(image)[0].numpy(), expected, rtol=1e-6)


def _functional(keras, suffix):
    k = keras.layers
    start = keras.Input((10, 12, 3), name="images")
    first = k.Conv2D(4, 3, padding="same", activation="relu", name="training")(start)
    shared = k.Conv2D(4, 1, name="shared")
    joined = k.Add(name="sum")([shared(first), first, shared(shared(first))])
    more = k.Concatenate()([joined, k.Average()([first, joined]), k.Maximum()([first, joined])])
    more = k.Subtract()([more, k.Multiply()([more, more])])
    if suffix == ".keras":  # Keras itself cannot read sums written with + back out of .h5
        more = more + more
    inner = keras.Sequential(
        [keras.Input((10, 12, 12)), k.Conv2D(3, 3), k.BatchNormalization(), k.Conv2D(2, 3)]
    )
    flat = k.Flatten()(inner(more))
    logits = k.Dense(5, name="output")(flat)
    return keras.Model(start, k.Softmax()(logits))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_graph_with_branches_shared_layers_and_inner_models(keras, images, tmp_path, suffix):
    model = _randomise(_functional(keras, suffix))
    ours = load_model(_save(model, tmp_path / f"m{suffix}"))
    batch = images(4, 3, 10, 12)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _answers(model, batch), atol=1e-5)
    modules = dict(ours.network.named_modules())
    assert isinstance(modules["output"], nn.Linear)
    assert isinstance(modules["shared"], nn.Conv2d)
    assert isinstance(modules["training_"], nn.Conv2d)
    assert ours.head == "output"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_inner_model_with_a_single_layer(keras, images, tmp_path, suffix):
    k = keras.layers
    inner = keras.Sequential([keras.Input((9, 8, 3)), k.Conv2D(3, 3), k.Dropout(0.2)])
    deeper = keras.Sequential(
        [keras.Input((7, 6, 3)), keras.Sequential([k.Conv2D(2, 2), k.Conv2D(2, 2)]), k.ReLU()]
    )
    model = _randomise(_sequential(keras, inner, deeper))
    ours = load_model(_save(model, tmp_path / f"m{suffix}"))
    batch = images(4, 3, 9, 8)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _answers(model, batch), atol=1e-5)


def test_weights_without_layer_names_are_found_by_class_and_count(keras, images, tmp_path):
    k = keras.layers
    model = _randomise(
        _sequential(keras, k.Conv2D(3, 3, name="b"), k.Conv2D(3, 3, name="a"), k.BatchNormalization())
    )
    path = _save(model, tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        file.visititems(lambda name, item: item.attrs.pop("name") if name.endswith("vars") else None)
    members["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    batch = images(4, 3, 9, 8)
    np.testing.assert_allclose(
        load_model(path).probabilities(batch).numpy(), _answers(model, batch), atol=1e-5
    )


def test_grey_images_without_channel_axis(keras, images, tmp_path):
    k = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8)), k.Reshape((8, 8, 1)), k.Conv2D(2, 3), k.Flatten(), k.Dense(3)]
    )
    ours = load_model(_save(_randomise(model), tmp_path / "m.keras"))
    batch = images(4, 1, 8, 8)
    expected = model.predict(batch[:, 0].numpy(), verbose=0)
    np.testing.assert_allclose(ours.all_logits(batch).numpy(), expected, atol=1e-5)


def test_open_size_needs_an_input_shape(keras, images, tmp_path):
    k = keras.layers
    layers = [k.Conv2D(4, 3), k.GlobalAveragePooling2D(), k.Dense(3)]
    model = keras.Sequential([keras.Input((None, None, 3)), *layers])
    path = _save(model, tmp_path / "m.keras")
    with pytest.raises(ModelError, match=r"state it with --input-shape"):
        load_model(path)
    assert load_model(path, input_shape=(3, 20, 24)).all_logits(images(2, 3, 20, 24)).shape == (2, 3)
    with pytest.raises(ModelError, match=r"expected input \(H, W, C\) .* as the file says"):
        load_model(path, input_shape=(1, 20, 24))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_changed_weights_come_back_into_plain_keras(keras, images, generator, tmp_path, suffix):
    model = _randomise(_functional(keras, suffix))
    ours = load_model(_save(model, tmp_path / f"m{suffix}"))
    with torch.no_grad():
        for parameter in ours.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for name, buffer in ours.network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1)
    written = save_model(ours, tmp_path / f"repaired{suffix}")
    batch = images(5, 3, 10, 12)
    theirs = keras.saving.load_model(written, compile=False)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _answers(theirs, batch), atol=1e-5)
    assert np.abs(_answers(theirs, batch) - _answers(model, batch)).max() > 1e-3
    np.testing.assert_array_equal(load_model(written).all_logits(batch), ours.all_logits(batch))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["depthwise", "separable", "norm_without_scale", "conv_groups"])
def test_writing_back_unchanged_weights_changes_nothing(keras, images, tmp_path, name, suffix):
    model = _randomise(_sequential(keras, *dict(_cases(keras))[name]()))
    written = save_model(load_model(_save(model, tmp_path / f"m{suffix}")), tmp_path / f"same{suffix}")
    theirs = keras.saving.load_model(written, compile=False)
    for before, after in zip(model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_relu_at_the_end_stays_and_is_told(keras, images, tmp_path):
    model = _randomise(_sequential(keras, end="relu"))
    ours = load_model(_save(model, tmp_path / "m.keras"))
    batch = images(5, *ours.input_shape)
    np.testing.assert_allclose(ours.all_logits(batch).numpy(), _answers(model, batch), atol=1e-5)
    assert any("it ends in a ReLU" in note for note in ours.origin.notes)


@pytest.mark.parametrize("end", ["tanh", "softplus"])
def test_other_endings_are_refused(keras, tmp_path, end):
    path = _save(_sequential(keras, end=end), tmp_path / "m.keras")
    with pytest.raises(ModelError, match=f"ends in softmax, sigmoid or logits, got one that ends in {end}"):
        load_model(path)


def test_softmax_before_an_inactive_dropout_is_found(keras, images, tmp_path):
    k = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), k.Flatten(), k.Dense(3), k.Softmax(), k.Activation("linear")]
    )
    ours = load_model(_save(_randomise(model), tmp_path / "m.h5"))
    batch = images(3, 3, 6, 6)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _answers(model, batch), atol=1e-5)
    assert "softmax" not in dict(ours.network.named_modules())


def test_unknown_layer_is_named(keras, tmp_path):
    path = _save(_sequential(keras, keras.layers.UpSampling2D(name="bigger")), tmp_path / "m.keras")
    with pytest.raises(
        ModelError, match=r"layer 'bigger' \(UpSampling2D\): expected one of the .* read; export .*tf2onnx"
    ):
        load_model(path)


def test_operation_on_tensors_is_named(keras, tmp_path):
    k = keras.layers
    start = keras.Input((6, 6, 3))
    model = keras.Model(start, k.Dense(3)(k.Flatten()(keras.ops.sin(start))))
    with pytest.raises(ModelError, match=r"expected layers, got the operation 'Sin'"):
        load_model(_save(model, tmp_path / "m.keras"))


def test_custom_layer_is_refused(keras, tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class Doubling(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    path = _save(_sequential(keras, Doubling(name="twice")), tmp_path / "m.keras")
    with pytest.raises(
        ModelError, match=r"layer 'twice': .*custom object 'mine>Doubling', which is code that is not"
    ):
        load_model(path)


def _config(path, change):
    """Change the description in a full .h5 file."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["config"].pop("layers"), r"its description cannot be understood: KeyError: 'layers'"),
        (lambda c: c.update(class_name="Evil"), r"expected a Sequential or Functional model, got 'Evil'"),
        (
            lambda c: c["config"]["layers"][1]["config"].update(filters=7),
            r"expected weight \(7, 3, 3, 3\), got an array",
        ),
        (
            lambda c: c["config"]["layers"][1]["config"].update(kernel_size=[10**9, 3]),
            r"numbers from 1 to 4096",
        ),
        (
            lambda c: c["config"]["layers"][1]["config"].update(padding="causal"),
            r"expected the padding same or valid",
        ),
        (
            lambda c: c["config"]["layers"][1]["config"].update(data_format="channels_first"),
            r"weight \(4, 9, 3",
        ),
        (
            lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, 10**9, 9, 3]),
            r"image input",
        ),
        (
            lambda c: c["config"]["layers"][1]["config"].update(activation="evil"),
            r"activation out of relu.*got 'evil'",
        ),
    ],
)
def test_damaged_descriptions(keras, tmp_path, change, text):
    model = _sequential(keras, keras.layers.Conv2D(4, 3))
    path = _config(_save(model, tmp_path / "m.h5"), change)
    with pytest.raises(ModelError, match=text):
        load_model(path)


def test_network_can_be_copied_and_pruned(keras, images, tmp_path):
    model = _sequential(keras, keras.layers.Conv2D(4, 3, name="conv"))
    ours = load_model(_save(_randomise(model), tmp_path / "m.keras"))
    copy = ours.copy()
    with torch.no_grad():
        copy.module("conv").weight[1].zero_()
    batch = images(2, 3, 9, 8)
    assert not torch.equal(copy.all_logits(batch), ours.all_logits(batch))
    written = load_model(save_model(copy, tmp_path / "pruned.keras"))
    torch.testing.assert_close(written.all_logits(batch), copy.all_logits(batch))
