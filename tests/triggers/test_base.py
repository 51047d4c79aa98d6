import json
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file

from detrojan.errors import DataError
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger


class Inverting(Trigger):
    kind: ClassVar[str] = "test-inverting"

    def __init__(self, strength):
        self.strength = strength

    def stamp(self, images):
        return torch.lerp(images, 1 - images, self.strength)

    def state(self):
        return {}, {"strength": self.strength}

    @classmethod
    def from_state(cls, tensors, values):
        return cls(values["strength"])

    def picture(self):
        return torch.full((1, 1, 1), self.strength)


@pytest.fixture(autouse=True, scope="module")
def _forget_the_kind_afterwards():
    yield
    Trigger._kinds.pop("test-inverting", None)


def test_a_new_kind_can_be_saved_and_loaded_by_being_defined(tmp_path):
    Inverting(0.25).save(tmp_path / "t.safetensors")
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert isinstance(loaded, Inverting)
    assert loaded.stamp(torch.ones(1)).item() == pytest.approx(0.75)


def test_a_patch_survives_the_file_bit_by_bit(tmp_path):
    random = torch.Generator().manual_seed(0)
    patch = PatchTrigger(torch.rand(5, 6, generator=random), torch.rand(3, 5, 6, generator=random))
    patch.save(str(tmp_path / "t.safetensors"))
    loaded = Trigger.load(tmp_path / "t.safetensors")
    assert isinstance(loaded, PatchTrigger)
    assert loaded.mask.equal(patch.mask)
    assert loaded.pattern.equal(patch.pattern)


def test_what_is_no_trigger_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing\.safetensors is not a trigger file"):
        Trigger.load(tmp_path / "missing.safetensors")
    path = tmp_path / "t.safetensors"
    path.write_bytes(b"\x80\x04 no safetensors at all")
    with pytest.raises(DataError, match=r"t\.safetensors is not a trigger file"):
        Trigger.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match=r"expected a trigger of kind .*patch.*, got None"):
        Trigger.load(path)
    save_file({"weight": torch.zeros(3)}, path, metadata={"kind": "virus", "values": "{}"})
    with pytest.raises(DataError, match="got 'virus'"):
        Trigger.load(path)
    save_file({}, path, metadata={"kind": "patch", "values": "{broken"})
    with pytest.raises(DataError, match="is not a trigger file"):
        Trigger.load(path)


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"mask": torch.zeros(4, 4)}, "expected tensors mask and pattern, got mask"),
        ({"mask": torch.zeros(4, 4), "pattern": torch.zeros(3, 5, 4)}, r"of one size, got \(1, 4, 4\) and"),
        (
            {"mask": torch.full((4, 4), torch.nan), "pattern": torch.zeros(3, 4, 4)},
            r"expected a mask in \[0, 1\]",
        ),
        (
            {"mask": torch.zeros(4, 4), "pattern": torch.full((3, 4, 4), 9.0)},
            "expected a pattern in .* got 9 to 9",
        ),
        ({"mask": torch.zeros(0, 4), "pattern": torch.zeros(3, 0, 4)}, "of one size"),
    ],
)
def test_a_hostile_patch_file_is_checked_like_any_input(tmp_path, tensors, text):
    path = tmp_path / "t.safetensors"
    save_file(tensors, path, metadata={"kind": "patch", "values": json.dumps({})})
    with pytest.raises(DataError, match=text):
        Trigger.load(path)
