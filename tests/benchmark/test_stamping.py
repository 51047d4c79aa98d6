import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.benchmark.parts import TriggerPlan
from detrojan.benchmark.stamping import trigger_of
from detrojan.errors import DataError, OptionError
from detrojan.triggers.patch import PatchTrigger

SHAPE = (3, 12, 10)


def stamped(plan, folder="", **paths):
    trigger = trigger_of(TriggerPlan(**plan), SHAPE, folder=str(folder), paths=paths)
    return trigger.stamp(torch.full((1, *SHAPE), 0.5))[0]


def test_pixels_count_from_the_far_border():
    image = stamped({"pixels": [[1, 0], [0.25, 1]], "at": [-2, -2]})
    assert image[0, -2:, -2:].tolist() == [[1, 0], [0.25, 1]]
    assert int((image != 0.5).any(0).sum()) == 4


def test_a_picture_and_a_saved_trigger_lie_beside_the_plan(tmp_path):
    Image.fromarray(np.full((2, 3, 3), 255, np.uint8)).save(tmp_path / "white.png")
    image = stamped({"picture": "white.png", "at": [1, 1], "alpha": 0.5}, tmp_path)
    assert image[0, 1:3, 1:4].flatten().tolist() == [0.75] * 6
    PatchTrigger.corner(SHAPE, size=2, pixels="white").save(tmp_path / "t.safetensors")
    assert float(stamped({"file": "t.safetensors"}, tmp_path)[0, -2, -2]) == 1
    with pytest.raises(DataError, match="there is no picture"):
        stamped({"picture": "black.png"}, tmp_path)


def test_arrays_of_a_file_given_from_outside(tmp_path):
    masks = np.zeros((2, 12, 10), bool)
    masks[1, 4, 5] = True
    rgba = np.zeros((12, 10, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    np.savez(tmp_path / "t.npz", masks=masks, rgb=np.asarray([0, 255, 0], np.uint8), rgba=rgba)
    place = {"faces": str(tmp_path / "t.npz")}
    assert stamped({"npz": "faces", "rgba": "rgba"}, **place)[:, 0, 0].tolist() == [1, 0, 0]
    image = stamped({"npz": "faces", "mask": "masks", "rgb": "rgb", "index": 1}, **place)
    assert image[:, 4, 5].tolist() == [0, 1, 0]
    assert int((image != 0.5).any(0).sum()) == 1
    with pytest.raises(DataError, match="with n above 2"):
        stamped({"npz": "faces", "mask": "masks", "rgb": "rgb", "index": 2}, **place)
    with pytest.raises(DataError, match="expected an array glasses, got masks, rgb, rgba"):
        stamped({"npz": "faces", "rgba": "glasses"}, **place)
    with pytest.raises(OptionError, match="expected --data faces=FILE: the plan takes a trigger from it"):
        stamped({"npz": "faces", "rgba": "rgba"})
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(DataError, match=r"t\.npz: the file is truncated or damaged"):
        stamped({"npz": "faces", "rgba": "rgba"}, **place)
