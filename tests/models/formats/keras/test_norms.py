"""Layers that normalise and rescale, against real Keras, and written back."""

import numpy as np
import pytest
import torch

from detrojan.errors import ModelError
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _cases(keras):
    k = keras.layers
    yield "layer_norm", [k.LayerNormalization(), k.LayerNormalization(center=False), k.Conv2D(4, 3)]
    yield (
        "layer_norm_of_all",
        [k.LayerNormalization(axis=[1, 2, 3]), k.LayerNormalization(axis=(2, 3), scale=False)],
    )
    yield "layer_norm_flat", [k.Flatten(), k.Dense(6), k.LayerNormalization(), k.UnitNormalization()]
    yield "group_norm", [k.Conv2D(6, 3), k.GroupNormalization(3), k.GroupNormalization(-1, scale=False)]
    yield "unit_norm", [k.Conv2D(6, 3), k.UnitNormalization(), k.UnitNormalization(axis=2)]
    yield "normalization", [k.Normalization(), k.Normalization(axis=None), k.Normalization(axis=(1, 3))]
    yield "stated", [k.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]), k.Conv2D(2, 3)]
    yield "stated_once", [k.Normalization(mean=0.3, variance=4.0), k.Normalization(invert=True)]
    yield "other_axis", [k.BatchNormalization(axis=1), k.GroupNormalization(3, axis=1)]
    yield "rescaling", [k.Rescaling([0.1, 0.2, 0.3], offset=[1.0, 0.0, -1.0]), k.Flatten(), k.Rescaling(2.0)]


NAMES = [
    *("layer_norm", "layer_norm_of_all", "layer_norm_flat", "group_norm", "unit_norm", "normalization"),
    *("stated", "stated_once", "other_axis", "rescaling"),
]


def _model(keras, name):
    layers = dict(_cases(keras))[name]
    return keras.Sequential([keras.Input((9, 8, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(4)])


def test_every_case_is_run(keras):
    assert [name for name, _ in _cases(keras)] == NAMES


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", NAMES)
def test_answers_as_keras_does_and_is_written_back(keras, as_keras, name, suffix):
    as_keras(_model(keras, name), suffix, written=suffix == ".keras")


def test_statistics_of_images_stay_as_they_were(keras, as_keras, tmp_path):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, 255, (40, 9, 8, 3)))
    model = keras.Sequential([keras.Input((9, 8, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(4)])
    model.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    with torch.no_grad():
        for parameter in ours.network.parameters():
            parameter.zero_()
    again = keras.saving.load_model(save_model(ours, tmp_path / "new.keras"))
    assert [np.abs(weight).max() for weight in again.layers[-1].get_weights()] == [0, 0]
    for before, after in zip(layer.get_weights(), again.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (ours.preprocessing.low, ours.preprocessing.high) == (0, 255)


@pytest.mark.parametrize("axis", [1, (1, 2)])
def test_layer_norm_over_other_axes_is_refused(keras, tmp_path, axis):
    layers = [
        keras.layers.LayerNormalization(axis=axis, name="odd"),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ]
    keras.Sequential([keras.Input((4, 4, 3)), *layers]).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=r"layer 'odd' .*expected a norm over the last axes"):
        load_model(tmp_path / "m.keras")
