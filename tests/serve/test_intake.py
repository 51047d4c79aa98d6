"""What comes in is turned back into the images that were prepared for an upstream."""

import numpy as np
import pytest
import torch

from detrojan.errors import RefusedError
from detrojan.models.preprocessing import PRESETS, Preprocessing
from detrojan.models.v2 import Tensor, feed
from detrojan.serve.intake import upstream_intake


def taken(*shape, kind="FP32", pre=None, most=64, limit=None):
    pre = pre or Preprocessing()
    found = feed(Tensor(name="x", datatype=kind, shape=shape), "m", most=limit)
    return upstream_intake(found, Preprocessing(**{**vars(pre), "layout": found.layout}), most)


@pytest.mark.parametrize("name", ["imagenet", "caffe", "inception", "bytes"])
@pytest.mark.parametrize("shape", [(-1, 3, 8, 9), (-1, 8, 9, 3)])
@pytest.mark.parametrize("kind", ["FP32", "FP16"])
def test_normalised_images_are_turned_back(name, shape, kind):
    intake = taken(*shape, kind=kind, pre=PRESETS[name])
    images = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    pre = Preprocessing(**{**vars(PRESETS[name]), "layout": "NHWC" if shape[3] == 3 else "NCHW"})
    scale, shift = pre.affine(3)
    values = pre.arranged(images * scale + shift).numpy().astype("<f2" if kind == "FP16" else "<f4")
    assert torch.allclose(intake.read(values), images, atol=2e-3 if kind == "FP16" else 1e-5)
    with pytest.raises(RefusedError, match="from black to white"):
        intake.read(values * 1.5)


def test_whole_numbers_single_images_and_fixed_numbers_of_them():
    bytes_ = taken(8, 9, 3, kind="UINT8", pre=Preprocessing(high=255.0))
    assert (bytes_.shape, bytes_.usual_datatype) == ((8, 9, 3), "UINT8")
    values = np.arange(216, dtype="u1").reshape(8, 9, 3)
    expected = torch.from_numpy(values.astype(np.float32) / 255).permute(2, 0, 1)[None]
    assert torch.allclose(bytes_.read(values), expected)
    bytes_.check([8, 9, 3], "UINT8")
    fixed = taken(4, 3, 8, 9)
    fixed.check([4, 3, 8, 9], "FP32")
    with pytest.raises(RefusedError, match=r"shape \[4, 3, 8, 9\], got \[3, 3, 8, 9\]"):
        fixed.check([3, 3, 8, 9], "FP32")
    with pytest.raises(RefusedError, match="at most 16 images"):
        taken(-1, 3, 8, 9, limit=16).check([17, 3, 8, 9], "FP32")
