from __future__ import annotations

import numpy as np
import pytest
import torch

from blobs import blobs
from detrojan.errors import DataError, InputError, LabelError, OptionError
from detrojan.jobs.inputs import load_data, load_inputs, training_data
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.learning.fresh import start_net
from detrojan.models.preprocessing import Framing
from detrojan.models.writing import save_model
from detrojan.run import Run


@pytest.fixture
def model(tmp_path):
    network = start_net("mnist_cnn", (1, 20, 20), classes=6, run=Run())
    return ModelSource(model=save_model(network, tmp_path / "model.safetensors"))


def written(path, data, shift=0, side=None):
    images = (data.images * 255).byte().permute(0, 2, 3, 1)
    np.savez(path, images=images[:, :side, :side].numpy(), labels=(data.labels + shift).numpy())
    return DataSource(data=str(path))


def test_labels_that_cannot_be_the_model_s_are_dropped_or_refused(model, tmp_path):
    source = written(tmp_path / "d.npz", blobs(30, 1), shift=50)
    inputs = load_inputs(model, source, Run())
    assert inputs.data.labels is None
    assert "the labels go up to 55, the network has 6 classes" in inputs.warnings[-1]
    with pytest.raises(LabelError, match="expected labels of 0 to 5"):
        load_inputs(model, source, Run(), strict=True)


def test_images_of_another_size_are_brought_to_the_model_s_or_a_wrong_size_is_refused(model, tmp_path):
    source = written(tmp_path / "d.npz", blobs(30, 1), side=16)
    inputs = load_inputs(model, source, Run())
    assert inputs.data.shape == (1, 20, 20)
    assert inputs.warnings[-1].startswith("pictures of 16x16 are resized to 20x20 (bilinear), as is usual")
    wrong = DataSource(data=source.data, resize=(16, 16))
    with pytest.raises(DataError, match="bring them to it with --resize 20x20"):
        load_inputs(model, wrong, Run())


def test_images_are_made_up_where_there_are_none(model):
    made = load_inputs(model, DataSource(data="none", samples=25), Run(), stand_ins=True)
    assert len(made.data) == 25
    assert "made-up images stand in" in made.warnings[-1]


def test_a_stated_size_is_remembered_by_the_network(model, tmp_path):
    source = written(tmp_path / "d.npz", blobs(30, 1), side=16)
    inputs = load_inputs(model, DataSource(data=source.data, resize=(20, 20)), Run())
    assert inputs.model.preprocessing.framing == Framing(resize=(20, 20))
    assert not any("as is usual" in text for text in inputs.warnings)
    again = load_data(source, Run(), network=inputs.model)
    assert again.notes[-1] == (
        "pictures of 16x16 are resized to 20x20 (bilinear), as the network's preprocessing says"
    )
    assert torch.equal(again.images, inputs.data.images)


def test_equal_seeds_draw_equal_images(tmp_path):
    written(tmp_path / "d.npz", blobs(60, 1))
    source = DataSource(data=str(tmp_path / "d.npz"), samples=20)
    first, again, other = (load_data(source, Run(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    with pytest.raises(OptionError, match="expected --data PATH"):
        load_data(DataSource(data=None), Run())


def test_held_out_data_are_the_stated_ones_or_the_test_split(tmp_path):
    data, words = blobs(40, 1), {"purpose": "training", "measuring": "measuring"}
    parts = {}
    for name, part in (("train", data.select(slice(0, 30))), ("test", data.select(slice(30, 40)))):
        parts[f"x_{name}"] = (part.images * 255).byte().permute(0, 2, 3, 1).numpy()
        parts[f"y_{name}"] = part.labels.numpy()
    np.savez(tmp_path / "split.npz", **parts)
    train, held = training_data(DataSource(data=str(tmp_path / "split.npz")), None, Run(), **words)
    assert (len(train), len(held)) == (30, 10)
    small = written(tmp_path / "small.npz", blobs(30, 1), side=16)
    with pytest.raises(InputError, match=r"images of shape \(1, 20, 20\), got \(1, 16, 16\)"):
        training_data(DataSource(data=str(tmp_path / "split.npz")), small.data, Run(), **words)
    stated, none = training_data(
        DataSource(data=str(tmp_path / "split.npz"), split="train"), None, Run(), **words
    )
    assert (len(stated), none) == (30, None)
