from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from detrojan.errors import DataError, InputError, ModelError
from detrojan.guards.base import load_guard
from detrojan.guards.strip import Strip
from detrojan.models.classifier import Preprocessing
from detrojan.run import Run
from twins import SHAPE, few_signs


@pytest.fixture(scope="module")
def made(twins):
    return Strip(copies=10).calibrate(twins.backdoored, few_signs(60, 11), run=Run(seed=1))


@pytest.fixture
def folder(made, tmp_path):
    return made.save(tmp_path / "guard")


def test_a_saved_guard_answers_as_before(twins, made, folder):
    again = load_guard(folder, twins.backdoored)
    images = twins.test.images[:20]
    assert torch.equal(again.score(images), made.score(images))
    assert again.threshold == made.threshold
    assert again.method == made.method
    assert again.warnings == made.warnings
    assert torch.equal(again.clean_scores, made.clean_scores)
    assert again.fit == made.fit


def test_a_guard_of_another_network_is_refused(twins, folder):
    with pytest.raises(ModelError, match=r"expected the network that the guard was calibrated for"):
        load_guard(folder, twins.clean)
    other = twins.backdoored.with_preprocessing(Preprocessing(high=255))
    with pytest.raises(ModelError, match=r"fed with 0..1, mean 0, std 1, NCHW, .* got 0..255"):
        load_guard(folder, other)


FIT = {
    "mean": 1.0,
    "std": 1.0,
    "normal": 0.1,
    "quantile": 0.1,
    "used": "normal",
    "rejected": 0.01,
    "distance": 0.1,
    "complaint": "",
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "x/1"}, "expected the schema detrojan.guard/2, got 'x/1'"),
        ({"kind": "magic"}, "expected a guard out of .*strip, got 'magic'"),
        ({"threshold": "1"}, "expected threshold, got none of its type"),
        ({"threshold": 10**400}, "expected a finite threshold"),
        ({"threshold": True}, "expected a finite threshold"),
        ({"hyper_parameters": {"copies": 3}}, "expected the hyper-parameters boundary, contrast, copies"),
        ({"values": {"fit": {"mean": 1}}}, "expected the values of a fit"),
        ({"values": {}}, "expected the values of a fit"),
        ({"values": {"fit": FIT | {"scale": 0}}}, "expected a scale above 0 in the fit, got 0"),
        ({"values": {"fit": FIT | {"scale": "x"}}}, "expected the values of a fit"),
        ({"values": {"fit": FIT | {"scale": 10**400}}}, "expected the values of a fit"),
        ({"values": {"fit": FIT | {"mean": float("nan")}}}, "expected the values of a fit"),
        ({"values": {"fit": FIT | {"used": 1}}}, "expected the values of a fit"),
        ({"values": {"fit": FIT | {"more": 1}}}, "expected the values of a fit"),
    ],
)
def test_changed_values_are_refused(twins, folder, change, says):
    path = folder / "guard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=says):
        load_guard(folder, twins.backdoored)


def test_hyper_parameters_out_of_range_are_refused(twins, folder):
    path = folder / "guard.json"
    record = json.loads(path.read_text())
    for wrong in ({"copies": 0}, {"copies": "many"}, {"weight": 10**400}):
        path.write_text(json.dumps(record | {"hyper_parameters": record["hyper_parameters"] | wrong}))
        with pytest.raises(DataError, match="its hyper-parameters make no strip guard"):
            load_guard(folder, twins.backdoored)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"overlays": torch.zeros(3, 3, 8, 8)}, r"expected overlays of shape \(copies, \(3, 24, 24\)\)"),
        ({"overlays": torch.full((3, *SHAPE), 2.0)}, r"expected overlays in \[0, 1\], got 2 to 2"),
        ({"overlays": torch.zeros(0, *SHAPE)}, "expected one or more float32 overlays, got 0"),
        ({"clean_scores": torch.tensor([float("nan")])}, "expected clean_scores, one finite number"),
    ],
)
def test_changed_tensors_are_refused(twins, folder, change, says):
    path = folder / "guard.safetensors"
    tensors = load_file(path)
    save_file(tensors | change, path)
    with pytest.raises(DataError, match=says):
        load_guard(folder, twins.backdoored)


def test_damaged_and_missing_files_are_named(twins, folder, tmp_path, made):
    with pytest.raises(DataError, match=r"expected the folder of a guard.*guard.json cannot be read"):
        load_guard(tmp_path / "nowhere", twins.backdoored)
    (folder / "guard.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="is not a guard's tensors"):
        load_guard(folder, twins.backdoored)
    (folder / "guard.json").write_text("{")
    with pytest.raises(DataError, match="is not a guard's JSON"):
        load_guard(folder, twins.backdoored)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write the guard"):
        made.save(tmp_path / "file")
