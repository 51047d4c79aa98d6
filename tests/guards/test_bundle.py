from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from detrojan.errors import DataError, InputError, ModelError
from detrojan.guards.bundle import load_bundle, load_guard, read_record, save_bundle, save_guard
from detrojan.guards.strip import Strip
from detrojan.models.loading import file_sha256
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from twins import SHAPE, few_signs


@pytest.fixture(scope="module")
def made(twins):
    return Strip(copies=10).calibrate(twins.backdoored, few_signs(60, 11), run=Run(seed=1))


@pytest.fixture
def folder(made, tmp_path):
    return save_guard(made, tmp_path / "guard")


def changed(folder, change):
    """Change values of guard.json."""
    path = folder / "guard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def as_version_2(folder):
    """Rewrite a guard's folder as version 2 had it: no digests, the model described by a file of its own."""
    record = json.loads((folder / "guard.json").read_text())
    model = record.pop("model")
    del record["tensors"]
    (folder / "guard.json").write_text(json.dumps(record | {"schema": "detrojan.guard/2"}))
    if model is not None:
        described = {"file": model["file"], "metadata": model["metadata"]}
        (folder / "model.json").write_text(json.dumps(described))


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
        ({"schema": "x/1"}, "expected the schema detrojan.guard/3, got 'x/1'"),
        ({"kind": "magic"}, "expected a guard out of .*strip.*, got 'magic'"),
        ({"threshold": "1"}, "threshold: Input should be a valid number"),
        ({"threshold": 10**400}, "threshold: Input should be"),
        ({"threshold": True}, "threshold: Input should be a valid number"),
        ({"threshold": float("nan")}, "threshold: Input should be a finite number"),
        ({"more": 1}, "more: there is no such key"),
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
    changed(folder, change)
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
    save_file(load_file(path) | change, path)
    with pytest.raises(DataError, match=r"expected guard.safetensors with the SHA-256 .* got another one"):
        load_guard(folder, twins.backdoored)
    changed(folder, {"tensors": {"file": path.name, "sha256": file_sha256(path)}})
    with pytest.raises(DataError, match=says):
        load_guard(folder, twins.backdoored)


def test_damaged_and_missing_files_are_named(twins, folder, tmp_path, made):
    with pytest.raises(DataError, match=r"expected the folder of a guard.*guard.json cannot be read"):
        load_guard(tmp_path / "nowhere", twins.backdoored)
    path = folder / "guard.safetensors"
    path.write_bytes(b"no")
    changed(folder, {"tensors": {"file": path.name, "sha256": file_sha256(path)}})
    with pytest.raises(DataError, match="is not a guard's tensors"):
        load_guard(folder, twins.backdoored)
    path.unlink()
    with pytest.raises(DataError, match=r"expected guard.safetensors with .* got no such file"):
        load_guard(folder, twins.backdoored)
    (folder / "guard.json").write_text("{")
    with pytest.raises(DataError, match="is not a guard's JSON"):
        load_guard(folder, twins.backdoored)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write the guard"):
        save_guard(made, tmp_path / "file")


class Killed(BaseException):
    """Stands for the end of the process: nothing is tidied up after it."""


def stopped_at(step, monkeypatch):
    """Have the process end at the renaming or removing with this number, and at all after it."""
    left = [step]
    for owner, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (os, "remove"),
                        (Path, "replace"), (Path, "unlink")):  # fmt: skip
        real = getattr(owner, name)

        def acting(*words, _real=real, **named):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return _real(*words, **named)

        monkeypatch.setattr(owner, name, acting)


@pytest.mark.parametrize("save", [save_guard, save_bundle])
def test_a_stopped_save_leaves_the_older_guard_or_the_new_one_whole(twins, made, tmp_path, save):
    """Otherwise new overlays meet an old threshold, and nobody notices."""
    data = few_signs(60, 12)
    other = Strip(copies=12, mode="blend").calibrate(twins.backdoored, data, run=Run(seed=2))
    wholes = [(one.threshold, len(one.overlays)) for one in (made, other)]
    seen, step, done = [], 0, False
    while not done:
        folder = save(made, tmp_path / str(step))
        with pytest.MonkeyPatch.context() as patch:
            stopped_at(step, patch)
            try:
                save(other, folder)
                done = True
            except Killed:
                pass
        found = load_guard(folder, twins.backdoored) if save is save_guard else load_bundle(folder)
        seen.append(wholes.index((found.threshold, len(found.overlays))))
        step += 1
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}
    assert len(seen) > 3  # it was stopped in between, too
    assert not list(folder.glob(".*"))


def test_a_save_that_fails_leaves_nothing_behind(twins, made, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_a, **_k):
        raise InputError("no space left")

    monkeypatch.setattr("detrojan.guards.bundle.save_text", full)
    with pytest.raises(InputError, match="no space left"):
        save_bundle(made, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_guard_works_by_itself_with_its_model(twins, made, tmp_path):
    folder = save_bundle(made, tmp_path / "guard")
    assert {path.name for path in folder.iterdir()} == {
        "guard.json", "guard.safetensors", "model.safetensors",
    }  # fmt: skip
    again, images = load_bundle(folder), twins.test.images[:5]
    # its tensors may lie otherwise in memory, which rounds otherwise on some processors
    torch.testing.assert_close(again.score(images), made.score(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        again.model.logits(images), twins.backdoored.logits(images), rtol=1e-4, atol=1e-4
    )
    (folder / "model.safetensors").write_bytes(b"another")
    with pytest.raises(DataError, match=r"expected model.safetensors with the SHA-256"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "expected a guard that was saved with its model, got none"),
        ({"file": "../model.safetensors"}, "expected a file model.* of the same folder"),
        ({"file": 3}, "model.file: Input should be a valid string"),
        ({"metadata": 3}, "model.metadata: Input should be a valid dictionary"),
    ],
)
def test_a_model_that_cannot_be_the_guard_s_is_refused(made, tmp_path, wrong, says):
    folder = save_bundle(made, tmp_path / "guard")
    model = json.loads((folder / "guard.json").read_text())["model"]
    changed(folder, {"model": None if wrong is None else model | wrong})
    with pytest.raises(DataError, match=says):
        load_bundle(folder)


def test_a_folder_of_version_2_is_read_and_replaced(twins, made, tmp_path):
    folder = save_bundle(made, tmp_path / "guard")
    as_version_2(folder)
    assert load_bundle(folder).threshold == made.threshold
    assert load_guard(folder, twins.backdoored).threshold == made.threshold
    (folder / "model.json").write_text('{"file": 3}')
    with pytest.raises(DataError, match="expected the description of a guarded model"):
        load_bundle(folder)
    save_bundle(made, folder)
    as_version_2(folder)
    save_bundle(made, folder)
    assert not (folder / "model.json").exists()
    assert read_record(folder).schema_ == "detrojan.guard/3"
    as_version_2(save_guard(made, tmp_path / "alone"))
    assert load_guard(tmp_path / "alone", twins.backdoored).threshold == made.threshold


def test_an_original_is_never_written_over(made, tmp_path):
    first = load_bundle(save_bundle(made, tmp_path / "guard"))
    with pytest.raises(ModelError, match="expected another folder than that of the original"):
        save_bundle(first, tmp_path / "guard")
    assert load_bundle(tmp_path / "guard").threshold == made.threshold
