"""Layers that take no weights of their own, in both orders of axes, against real Keras."""

import pytest
import torch
from torch import fx, nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.layers import AUGMENTATIONS
from detrojan.models.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _ended(keras, *layers, shape=(9, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Flatten(), keras.layers.Dense(4)])


def _cases(keras):
    k = keras.layers
    yield "crop", [k.Cropping2D(((1, 2), (0, 3))), k.ZeroPadding2D(((0, 1), (2, 0)))]
    yield (
        "permute",
        [k.Permute((3, 1, 2)), k.Conv2D(2, 2), k.Permute((2, 1, 3)), k.Reshape((-1, 4)), k.Dense(3)],
    )
    yield (
        "dense_on_maps",
        [k.Dense(5, activation="relu"), k.GlobalAveragePooling2D(keepdims=True), k.Dense(3)],
    )
    yield "softmax_in_maps", [k.Conv2D(4, 1, activation="softmax"), k.Softmax(axis=1), k.Conv2D(2, 2)]
    yield "center_crop", [k.CenterCrop(5, 6), k.RandomCrop(5, 6)]
    yield "center_crop_of_less", [k.CenterCrop(12, 10)]
    yield (
        "nearest",
        [k.Resizing(7, 12, interpolation="nearest"), k.Resizing(7, 12, crop_to_aspect_ratio=True)],
    )
    yield "larger", [k.Resizing(13, 15), k.Resizing(8, 8, crop_to_aspect_ratio=True)]
    yield "dropouts", [k.Dropout(0.5, noise_shape=(None, 1, 1, 1)), k.SpatialDropout2D(0.5), k.Identity()]
    yield (
        "strided_same",
        [k.Conv2D(4, 3, 2, "same"), k.DepthwiseConv2D(3, 2, "same"), k.MaxPooling2D(3, 2, "same")],
    )
    yield (
        "activation_as_layer",
        [k.Conv2D(4, 3, activation=k.LeakyReLU(0.1)), k.ReLU(6.0), k.ReLU(6, 0.1, 0.2)],
    )


NAMES = [
    *("crop", "permute", "dense_on_maps", "softmax_in_maps", "center_crop", "center_crop_of_less", "nearest"),
    *("larger", "dropouts", "strided_same", "activation_as_layer"),
]


def test_every_case_is_run(keras):
    assert [name for name, _ in _cases(keras)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_keras_does(keras, as_keras, name):
    as_keras(_ended(keras, *dict(_cases(keras))[name]))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_channels_first(keras, as_keras, suffix):
    k, first = keras.layers, {"data_format": "channels_first"}
    layers = [
        k.RandomFlip(**first),
        k.Conv2D(4, 3, strides=2, padding="same", **first),
        k.BatchNormalization(axis=1),
        k.DepthwiseConv2D(2, **first),
        k.MaxPooling2D(2, **first),
        k.Flatten(**first),
        k.Dense(4),
    ]
    ours = as_keras(
        keras.Sequential([keras.Input((3, 12, 11)), *layers]), suffix, last=False, written=suffix == ".keras"
    )
    assert ours.input_shape == (3, 12, 11)


def test_both_orders_in_one_network(keras, as_keras):
    k, first = keras.layers, {"data_format": "channels_first"}
    start = keras.Input((8, 9, 3))
    turned = k.Permute((3, 1, 2))(start)
    x = k.Concatenate(axis=1)([k.Conv2D(2, 3, padding="same", **first)(turned), turned])
    x = k.Concatenate(axis=2)([x, k.AveragePooling2D(1, **first)(x)])
    x = k.Add()([x, k.LayerNormalization()(x)])
    x = k.GlobalMaxPooling2D(keepdims=True, **first)(x)
    as_keras(keras.Model(start, k.Dense(3)(k.Flatten()(x))))


def test_augmentation_does_nothing_and_is_noted(keras, as_keras):
    k = keras.layers
    layers = [k.RandomFlip("horizontal"), k.RandomRotation(0.1), k.RandomZoom(0.1), k.RandomContrast(0.1)]
    layers += [k.RandomTranslation(0.1, 0.1), k.RandomBrightness(0.1), k.GaussianNoise(0.5)]
    inner = keras.Sequential([keras.Input((9, 8, 3)), *layers], name="augmentation")
    (note,) = as_keras(_ended(keras, inner)).origin.notes
    assert note.endswith(
        f"layers that act only in training do nothing here: {', '.join(x.name for x in layers)}"
    )


def test_augmentations_are_layers_of_keras(keras):
    apart = {"RandomApply", "RandomChoice", "RandomHeight", "RandomWidth"}  # of other versions
    assert [name for name in AUGMENTATIONS if not hasattr(keras.layers, name) and name not in apart] == []


def test_size_is_taken_from_the_resizing_where_the_input_leaves_it_open(keras, as_keras):
    k = keras.layers
    layers = [k.RandomFlip(), k.Resizing(10, 12), k.Conv2D(2, 3), k.GlobalAveragePooling2D(), k.Dense(3)]
    assert as_keras(keras.Sequential([keras.Input((None, None, 3)), *layers])).input_shape == (3, 10, 12)


@pytest.mark.parametrize("how", ["bicubic", "area", "lanczos3"])
def test_other_resizing_is_refused(keras, tmp_path, how):
    model = _ended(keras, keras.layers.Resizing(9, 8, interpolation="bilinear", name="smaller"))
    model.save(tmp_path / "m.keras")
    model.get_layer("smaller").interpolation = how
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=rf"layer 'smaller' .*bilinear or nearest .*got '{how}'"):
        load_model(tmp_path / "m.keras")


def test_searches_can_trace_a_network_and_fold_its_norms(keras, as_keras):
    k = keras.layers
    layers = [k.Rescaling(1 / 255), k.Conv2D(4, 3, 2, "same"), k.BatchNormalization(), k.ReLU(6.0)]
    layers += [k.AveragePooling2D(3, 1, "same"), k.Resizing(6, 6), k.Conv2D(4, 3, activation="silu")]
    ours = as_keras(_ended(keras, *layers))
    traced = fx.symbolic_trace(ours.network)
    batch = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(traced(batch), ours.network(batch))
    kinds = [
        type(traced.get_submodule(node.target)) for node in traced.graph.nodes if node.op == "call_module"
    ]
    assert [nn.Conv2d, nn.BatchNorm2d] == kinds[:2]


def test_stochastic_depth_drops_whole_images_in_training_alone(keras, as_keras):
    k = keras.layers
    start = keras.Input((4, 4, 2))
    x = k.Add()([start, k.Dropout(0.5, noise_shape=(None, 1, 1, 1), name="drop")(start)])
    ours = as_keras(keras.Model(start, k.Dense(3)(k.Flatten()(x))))
    module = ours.module("drop").train()
    kept = module(torch.ones(200, 2, 4, 4)).flatten(1)
    assert torch.equal(kept.amin(1), kept.amax(1))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
