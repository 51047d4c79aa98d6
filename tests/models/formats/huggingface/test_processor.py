"""preprocessor_config.json of many kinds, compared with what the library's own processors do."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from detrojan.errors import ModelError
from detrojan.models.formats.huggingface.processor import preprocessing_of
from detrojan.models.preprocessing import Framing
from framing import framed


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViTImageProcessorPil", {}),
        ("ViTImageProcessorPil", {"size": {"height": 20, "width": 30}, "resample": 3}),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 32}}),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
        (
            "DeiTImageProcessorPil",
            {"size": {"height": 48, "width": 48}, "crop_size": {"height": 32, "width": 32}},
        ),
        ("CLIPImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
        ("EfficientNetImageProcessorPil", {"size": {"height": 32, "width": 32}, "rescale_offset": True}),
        ("EfficientNetImageProcessorPil", {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5}),
        (
            "PoolFormerImageProcessorPil",
            {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        ),
        ("LevitImageProcessorPil", {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}),
        ("ViTImageProcessorPil", {"do_rescale": False}),
        ("ViTImageProcessorPil", {"do_normalize": False}),
    ],
)
def test_a_picture_is_prepared_as_the_library_does(name, settings):
    processor = getattr(transformers, name, None)
    if processor is None:
        pytest.skip(f"this version of transformers has no {name}")
    processor = processor(**settings)
    found, made = preprocessing_of(json.loads(processor.to_json_string()), "there")
    noise = np.random.default_rng(4).integers(0, 256, (9, 6, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize((60, 90), 2)
    wanted = processor(picture, return_tensors="pt")["pixel_values"][0].float()
    assert made == tuple(wanted.shape[1:])
    pixels = torch.from_numpy(np.array(framed(picture, found.framing, int))).permute(2, 0, 1) / 255
    scale, shift = found.affine(3)
    largest = float(wanted.abs().max())
    assert float((pixels * scale + shift - wanted).abs().max()) <= 0.02 * largest


def test_older_files_say_less():
    said = {
        "do_resize": True,
        "size": 224,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    found, made = preprocessing_of(
        said | {"resample": 3, "feature_extractor_type": "ViTFeatureExtractor"}, "x"
    )
    assert (found.framing, made) == (Framing(resize=(224, 224), interpolation="bicubic"), (224, 224))
    assert (found.low, found.high, found.mean, found.std) == (0, 1, (0.5,) * 3, (0.5,) * 3)
    said |= {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875}
    found, made = preprocessing_of(said, "x")
    assert (found.framing, made) == (Framing(resize=256, crop=(224, 224)), (224, 224))
    found = preprocessing_of({"do_normalize": False, "do_flip_channel_order": True}, "x")[0]
    assert (found.framing, found.channels) == (None, "BGR")


@pytest.mark.parametrize(
    "said",
    [
        {"do_resize": True, "size": {"longest_edge": 5}},
        {"do_resize": True, "size": 10**9},
        {"do_resize": True, "size": "big"},
        {"do_resize": True, "size": 224, "resample": 9},
        {"do_normalize": True, "image_mean": [float("nan")], "image_std": [1]},
        {"do_normalize": True, "image_mean": [0.5]},
        {"do_normalize": True, "image_mean": [0.5], "image_std": [0]},
        {"do_resize": True, "size": {"shortest_edge": 224}, "crop_pct": 2},
        {
            "do_flip_channel_order": True,
            "do_normalize": True,
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [1],
        },
        {"do_rescale": True, "rescale_factor": {}},
    ],
)
def test_what_makes_no_sense_is_refused(said):
    with pytest.raises(ModelError, match=r"expected|cannot be read"):
        preprocessing_of(said, "there")
