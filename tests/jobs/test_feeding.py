from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from blobs import blobs
from detrojan.errors import ModelError, OptionError
from detrojan.jobs.feeding import stated_preprocessing
from detrojan.jobs.inputs import load_data, load_inputs
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.learning.fresh import start_net
from detrojan.models.preprocessing import Framing, Preprocessing, preset
from detrojan.models.writing import save_model
from detrojan.run import Run


def source(tmp_path, **how):
    return ModelSource(model=tmp_path / "model.safetensors", **how)


def network(shape=(3, 20, 20), preprocessing=None):
    model = start_net("badnets_cnn", shape, classes=6, run=Run())
    return model if preprocessing is None else model.with_preprocessing(preprocessing)


def test_what_is_stated_goes_before_what_the_model_states(tmp_path):
    own = Preprocessing(high=255.0, layout="NHWC", framing=Framing(resize=(20, 20)))
    assert stated_preprocessing(source(tmp_path), own) == own
    named = stated_preprocessing(source(tmp_path, preprocess="imagenet"), own)
    assert (named.mean, named.high) == (preset("imagenet").mean, 1.0)
    assert (named.layout, named.framing) == ("NHWC", own.framing), "a preset does not know of them"
    mixed = stated_preprocessing(source(tmp_path, preprocess="imagenet", mean=(0.5,), std=(0.5,)), own)
    assert (mixed.mean, mixed.std, mixed.high) == ((0.5,), (0.5,), 1.0)
    file = tmp_path / "pre.json"
    file.write_text(json.dumps({"range": [0, 255], "resize": 24, "crop": 20}))
    read = stated_preprocessing(source(tmp_path, preprocess=str(file), input_range=(-1.0, 1.0)), own)
    assert (read.low, read.high, read.layout) == (-1.0, 1.0, "NCHW")
    assert read.framing == Framing(resize=24, crop=(20, 20))


def test_blue_first_turns_the_colours_and_their_means(tmp_path):
    turned = stated_preprocessing(source(tmp_path, preprocess="imagenet", bgr=True), Preprocessing())
    assert (turned.channels, turned.mean) == ("BGR", preset("imagenet").mean[::-1])
    caffe = stated_preprocessing(source(tmp_path, preprocess="caffe", bgr=True), Preprocessing())
    assert caffe == preset("caffe"), "it takes blue first anyway"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"preprocess": "imagnet"}, "expected a preprocessing out of unit, bytes"),
        ({"preprocess": "auto", "mean": (0.5,)}, "expected --preprocess auto without"),
        ({"preprocess": "auto", "input_range": (0.0, 1.0)}, "expected --preprocess auto without"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, how, said):
    save_model(network(), tmp_path / "model.safetensors")
    with pytest.raises(OptionError, match=said):
        load_inputs(source(tmp_path, **how), DataSource(data="signs"), Run())


def test_photos_of_any_size_are_framed_as_the_network_states(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate(((40, 30), (25, 31), (20, 20))):
        noise = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    framing = Framing(resize=24, crop=(20, 20), interpolation="bicubic")
    stated = network(preprocessing=Preprocessing(framing=framing))
    save_model(stated, tmp_path / "model.safetensors")
    inputs = load_inputs(source(tmp_path), DataSource(data=str(folder)), Run())
    assert inputs.model.preprocessing.framing == framing, "the file keeps it"
    assert inputs.data.shape == (3, 20, 20)
    said = "pictures of 3 different sizes are resized to 24 (bicubic) and cropped to 20x20"
    assert inputs.data.notes[-1].startswith(said)
    assumed = load_data(DataSource(data=str(folder)), Run(), network=network())
    assert "are resized to 20x20 (bilinear), as is usual" in assumed.notes[-1]
    wrong = network(preprocessing=Preprocessing(framing=Framing(resize=(22, 22))))
    with pytest.raises(ModelError, match="expected a framing that gives the network's 20x20"):
        load_data(DataSource(data=str(folder)), Run(), network=wrong)


def test_colours_follow_the_user_or_the_network(tmp_path):
    images = (blobs(30, 1).images * 255).byte().permute(0, 2, 3, 1).repeat(1, 1, 1, 3)
    np.savez(tmp_path / "d.npz", images=images.numpy())
    data = DataSource(data=str(tmp_path / "d.npz"))
    grey = network((1, 20, 20), Preprocessing(channels="grey"))
    unasked = load_data(data, Run(), network=network((1, 20, 20)))
    assert unasked.warnings == ("colour made grey, since the network takes grey images",)
    made = load_data(data, Run(), network=grey)
    assert made.shape[0] == 1
    assert made.notes[-1] == "colour made grey"
    assert not made.warnings
    np.savez(tmp_path / "grey.npz", images=images.numpy()[..., 0])
    repeated = load_data(DataSource(data=str(tmp_path / "grey.npz")), Run(), network=network())
    assert repeated.warnings == ("grey repeated into 3 channels, since the network takes coloured images",)
    asked = load_data(DataSource(data=str(tmp_path / "d.npz"), channels="grey"), Run())
    assert asked.shape[0] == 1
