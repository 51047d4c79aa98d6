"""How networks end, and several outputs, against real Keras."""

import numpy as np
import pytest
import torch
from torch import nn

from detrojan.errors import OptionError
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _theirs(model, batch):
    return model.predict(batch.permute(0, 2, 3, 1).numpy(), verbose=0)


def _saved(keras, path, *ends, shape=(6, 6, 3)):
    k = keras.layers
    model = keras.Sequential([keras.Input(shape), k.Conv2D(4, 3), k.GlobalAveragePooling2D(), *ends])
    model.save(path)
    return model


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("end", ["sigmoid", "linear"])
def test_a_single_unit_stands_for_two_classes(keras, images, tmp_path, suffix, end):
    theirs = _saved(keras, tmp_path / f"m{suffix}", keras.layers.Dense(1, activation=end))
    ours, batch = load_model(tmp_path / f"m{suffix}"), images(5, 3, 6, 6)
    wanted = torch.from_numpy(_theirs(theirs, batch))
    wanted = wanted if end == "sigmoid" else wanted.sigmoid()
    assert ours.num_classes == 2
    np.testing.assert_allclose(ours.probabilities(batch)[:, 1:].numpy(), wanted.numpy(), atol=1e-5)
    with torch.no_grad():
        ours.module(ours.head).weight.mul_(2)
    theirs.load_weights(save_model(ours, tmp_path / f"new{suffix}"))
    again = torch.from_numpy(_theirs(theirs, batch))
    again = again if end == "sigmoid" else again.sigmoid()
    np.testing.assert_allclose(ours.probabilities(batch)[:, 1:].numpy(), again.numpy(), atol=1e-5)


def test_log_softmax_as_an_operation_is_cut(keras, images, tmp_path):
    k = keras.layers
    start = keras.Input((6, 6, 3))
    theirs = keras.Model(start, keras.ops.log_softmax(k.Dense(4)(k.Flatten()(start))))
    theirs.save(tmp_path / "m.keras")
    ours, batch = load_model(tmp_path / "m.keras"), images(5, 3, 6, 6)
    np.testing.assert_allclose(ours.probabilities(batch).log().numpy(), _theirs(theirs, batch), atol=1e-5)
    assert ours.head == "dense" or ours.head.startswith("dense")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_one_of_several_outputs_is_judged(keras, images, tmp_path, suffix):
    k = keras.layers
    start = keras.Input((6, 6, 3))
    x = k.Flatten()(k.Conv2D(3, 3)(start))
    ends = [k.Dense(4, "softmax", name="shape")(x), k.Dense(3, "softmax", name="colour")(x)]
    theirs = keras.Model(start, ends)
    path, batch = tmp_path / f"m{suffix}", images(5, 3, 6, 6)
    theirs.save(path)
    with pytest.raises(OptionError, match=r"got shape \(N, 4\), colour \(N, 3\): name one with --output"):
        load_model(path)
    wanted = _theirs(theirs, batch)
    for name, answer in zip(("shape", "colour"), wanted, strict=True):
        ours = load_model(path, output=name)
        np.testing.assert_allclose(ours.probabilities(batch).numpy(), answer, atol=1e-5)
        assert ours.head == name


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_last_convolution_of_one_pixel_is_the_head(keras, images, tmp_path, suffix, bias):
    k = keras.layers
    ends = [k.Reshape((1, 1, 4)), k.Dropout(0.1), k.Conv2D(5, 1, use_bias=bias, name="preds")]
    ends += [k.Reshape((5,)), k.Activation("softmax")]
    theirs = _saved(keras, tmp_path / f"m{suffix}", *ends)
    ours, batch = load_model(tmp_path / f"m{suffix}"), images(5, 3, 6, 6)
    assert ours.head == "preds"
    assert isinstance(ours.module("preds"), nn.Linear)
    assert ours.activations(batch).shape == (5, 4)
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _theirs(theirs, batch), atol=1e-5)
    with torch.no_grad():
        ours.module("preds").weight.mul_(2)
    theirs.load_weights(save_model(ours, tmp_path / f"new{suffix}"))
    np.testing.assert_allclose(ours.probabilities(batch).numpy(), _theirs(theirs, batch), atol=1e-5)
