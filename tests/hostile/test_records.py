"""Hostile reports, guards, triggers and lists of names end in one line."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from detrojan.data.drawn.synthetic import synthetic
from detrojan.guards.bundle import save_bundle
from detrojan.guards.strip import Strip
from detrojan.models.loading import load_model
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger


@pytest.fixture(scope="module")
def guard(good, tmp_path_factory):
    """Return a guard's folder."""
    model = load_model(good, net="mnist_cnn")
    images = synthetic(40, model.input_shape, seed=1)
    made = Strip(copies=4, frr=0.2).calibrate(model, images, run=Run())
    return save_bundle(made, tmp_path_factory.mktemp("guard") / "guard")


@pytest.mark.parametrize("kind", ["pipe", "link", "types", "deep", "huge", "nan"])
def test_a_hostile_guard_is_refused(tmp_path, refused, guard, kind):
    folder = tmp_path / "guard"
    folder.mkdir()
    for file in guard.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    record = folder / "guard.json"
    value = json.loads(record.read_text())
    if kind == "pipe":
        record.unlink()
        os.mkfifo(record)
    elif kind == "link":
        tensors = folder / "guard.safetensors"
        (tmp_path / "outside").write_bytes(tensors.read_bytes())
        tensors.unlink()
        tensors.symlink_to(tmp_path / "outside")
    else:
        changed = {
            "types": {"threshold": []},
            "huge": {"threshold": 10**400},
            "nan": {"threshold": float("nan")},
        }
        text = "[" * 200_000 if kind == "deep" else json.dumps(value | changed[kind])
        record.write_text(text)
    said = refused("guard", "check", folder, "--data", "signs", "--samples", "4")
    assert str(folder) in said


@pytest.mark.parametrize("values", ["complex", "nan", "shape", "deep", "list", "kind"])
def test_a_hostile_trigger_is_refused(tmp_path, refused, good, values):
    path = tmp_path / "trigger.safetensors"
    mask, metadata = torch.ones(1, 28, 28), {"kind": "patch", "values": "{}"}
    if values == "complex":
        mask = mask.to(torch.complex64)
    elif values == "nan":
        mask = mask * float("nan")
    elif values == "shape":
        mask = torch.ones(3)
    else:
        metadata |= {
            "deep": {"values": "[" * 100_000},
            "list": {"values": "[1]"},
            "kind": {"kind": "x" * 5000},
        }[values]
    save_file({"mask": mask, "pattern": torch.ones(1, 28, 28)}, path, metadata)
    said = refused(
        *(
            "evaluate",
            good,
            "--net",
            "mnist_cnn",
            "--data",
            _pictures(tmp_path),
            "--unlabelled",
            "--trigger",
            path,
            "--target",
            1,
        )
    )
    assert str(path) in said


def test_a_trigger_that_is_a_pipe_is_refused(tmp_path, refused, good):
    os.mkfifo(tmp_path / "trigger.safetensors")
    trigger = tmp_path / "trigger.safetensors"
    said = refused(
        *(
            "evaluate",
            good,
            "--net",
            "mnist_cnn",
            "--data",
            _pictures(tmp_path),
            "--unlabelled",
            "--trigger",
            trigger,
            "--target",
            1,
        )
    )
    assert "got a FIFO" in said


def _pictures(folder):
    import numpy as np  # noqa: PLC0415

    path = folder / "images.npz"
    np.savez(path, images=np.zeros((20, 28, 28), np.uint8))
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "constant", "list"])
def test_a_hostile_report_is_refused(tmp_path, refused, good, kind):
    path = tmp_path / "scan.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text({"deep": "[" * 200_000, "constant": '{"schema": NaN}', "list": "[]"}[kind])
    said = refused(
        *(
            "repair",
            good,
            "--net",
            "mnist_cnn",
            "--data",
            _pictures(tmp_path),
            "--findings",
            path,
            "--out",
            tmp_path / "out.pt",
        )
    )
    assert str(path) in said


@pytest.mark.parametrize("named", ["/etc/passwd", "../outside.safetensors", "..\\outside.safetensors"])
def test_a_report_does_not_name_files_elsewhere(tmp_path, named):
    from detrojan.errors import DataError  # noqa: PLC0415
    from detrojan.jobs.findings import trigger_within  # noqa: PLC0415

    PatchTrigger(torch.ones(1, 4, 4), torch.ones(1, 4, 4)).save(tmp_path / "outside.safetensors")
    with pytest.raises(DataError, match=r"expected a trigger's file in the report's folder or below it"):
        trigger_within(tmp_path / "below" / "scan.json", named)


@pytest.mark.parametrize("kind", ["device", "pipe", "long"])
def test_hostile_names_of_classes_are_refused(tmp_path, refused, good, kind):
    path = tmp_path / "names.txt"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"a" * (17 << 20))
    said = refused("scan", good, "--net", "mnist_cnn", "--class-names", path, "--data", "none")
    assert str(path) in said
