from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from detrojan.errors import InputError
from detrojan.models.preprocessing import Framing, Preprocessing
from detrojan.models.preprocessing_file import read_preprocessing

VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
CLIP = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48, 0.45, 0.4],
    "image_std": [0.26, 0.26, 0.27],
    "resample": 3,
    "size": 224,
}
CONVNEXT = {
    "do_resize": True,
    "crop_pct": 0.875,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 224},
}


def read(tmp_path, values):
    path = tmp_path / "preprocessing.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return read_preprocessing(path)


def test_our_own_keys(tmp_path):
    found = read(
        tmp_path,
        {
            "mean": [103.9, 116.8, 123.7], "std": 1, "range": [0, 255], "resize": 256, "crop": 224,
            "interpolation": "bicubic", "channels": "BGR", "layout": "NHWC",
        },
    )  # fmt: skip
    assert found == Preprocessing(
        high=255.0, mean=(103.9, 116.8, 123.7), std=(1.0,), channels="BGR", layout="NHWC",
        framing=Framing(resize=256, crop=(224, 224), interpolation="bicubic"),
    )  # fmt: skip
    assert read(tmp_path, {}) == Preprocessing()
    assert read(tmp_path, {"resize": [55, 47]}).framing == Framing(resize=(55, 47))


def test_hugging_face_processors(tmp_path):
    vit = read(tmp_path, VIT)
    assert (vit.low, vit.high, vit.mean, vit.std) == (0, 1, (0.5,) * 3, (0.5,) * 3)
    assert vit.framing == Framing(resize=(224, 224))
    clip = read(tmp_path, CLIP)
    assert clip.mean == (0.48, 0.45, 0.4)
    assert clip.framing == Framing(resize=224, crop=(224, 224), interpolation="bicubic")
    assert read(tmp_path, CONVNEXT).framing == Framing(resize=256, crop=(224, 224), interpolation="bicubic")
    raw = read(tmp_path, {**VIT, "do_rescale": False, "do_normalize": False, "do_resize": False})
    assert raw == Preprocessing(high=255.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("[]", "expected a JSON object, got a list"),
        ("{", "expected a JSON object, got something else"),
        ({"means": 1}, "expected keys out of mean, std, range.*got 'means'"),
        ({"mean": [1, 2]}, "expected 1 or 3 values"),
        ({"std": 0}, "expected standard deviations above 0"),
        ({"mean": "NaN"}, "expected a finite number"),
        ({"range": [1, 0]}, "expected an input range low < high"),
        ({"range": 3}, "expected numbers and sizes"),
        ({"resize": 10**9}, "expected sides of 1 to 4096 pixels"),
        ({"resize": [1, 2, 3]}, "expected numbers and sizes"),
        ({"channels": "RBG"}, "expected the channels RGB, BGR or grey"),
        ({"layout": ["NCHW"]}, "expected the layout NCHW or NHWC"),
        ({**VIT, "resample": 9}, "expected a filter out of"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(tmp_path, values, said):
    with pytest.raises(InputError, match=f"preprocessing.json: {said}"):
        read(tmp_path, values)
    with pytest.raises(InputError, match="cannot be read"):
        read_preprocessing(tmp_path / "nowhere.json")


def test_a_pipe_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: expected a plain file, got a FIFO"):
        read_preprocessing(tmp_path / "pipe")
    with pytest.raises(InputError, match="/dev/zero: expected a plain file, got a device"):
        read_preprocessing(Path("/dev/zero"))
