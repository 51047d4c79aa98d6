"""ONNX files whose weights lie in a second file beside them, as PyTorch's exporter writes large networks."""

import os
import shutil

import numpy as np
import onnx
import pytest
import torch

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.formats.onnx import format as onnx_format
from detrojan.models.loading import load_model
from detrojan.models.writing import check_place, save_model
from detrojan.quarantine.limits import VARIABLE
from onnx_graphs import Residual, exported, made, settled

SHAPE = (3, 16, 16)


def _apart(folder, location="net.onnx.data", name="net.onnx", **said):
    """Write a small graph whose kernel lies in another file, and say of it what is asked."""
    generator = np.random.default_rng(0)
    weights = {
        "kernel": generator.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "head": generator.normal(size=(144, 6)).astype(np.float32),
    }
    nodes = [
        ("Conv", ["images", "kernel"], "maps"),
        ("Flatten", ["maps"], "flat"),
        ("MatMul", ["flat", "head"], "logits"),
    ]
    made(folder / "whole.onnx", nodes, weights)
    model = onnx.load(folder / "whole.onnx")
    onnx.save(model, folder / name, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    model = onnx.load(folder / name, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = {"location": location, **said}.get(entry.key, entry.value)
    onnx.save(model, folder / name)
    return folder / name


def test_weights_beside_the_file_are_read_and_written_into_one_file(tmp_path, images):
    torch.manual_seed(3)
    network = settled(Residual(), SHAPE)
    path = exported(network, tmp_path / "net.onnx", SHAPE, new=True, apart=True)
    assert (tmp_path / "net.onnx.data").stat().st_size > 1000
    model, batch = load_model(path), images(4, *SHAPE)
    torch.testing.assert_close(model.all_logits(batch), network(batch).detach(), rtol=1e-4, atol=1e-4)
    assert "differ from ONNX Runtime's by at most" in model.origin.notes[0]
    assert model.origin.notes[1].endswith(
        "its weights lie in net.onnx.data; where it is written, it becomes one file"
    )
    with torch.no_grad():
        model.network.get_parameter("head.weight").mul_(1.5)
    (tmp_path / "elsewhere").mkdir()
    again = load_model(save_model(model, tmp_path / "elsewhere" / "out.onnx"))
    torch.testing.assert_close(again.all_logits(batch), model.all_logits(batch), rtol=1e-5, atol=1e-5)


def test_the_digest_covers_the_weights_beside_the_file(tmp_path):
    path = _apart(tmp_path)
    before = load_model(path)
    content = bytearray((tmp_path / "net.onnx.data").read_bytes())
    content[3] ^= 1
    (tmp_path / "net.onnx.data").write_bytes(content)
    assert load_model(path).origin.sha256 != before.origin.sha256
    with pytest.raises(ModelError, match="as it was read"):
        save_model(before, tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        ({"location": "/etc/passwd"}, UnsafeFileError, "the name of a file in it, got '/etc/passwd'"),
        ({"location": "../net.onnx.data"}, UnsafeFileError, "the name of a file in it"),
        ({"location": "."}, UnsafeFileError, "the name of a file in it, got '.'"),
        ({"location": "x" * 5000}, UnsafeFileError, "the name of a file in it"),
        ({"location": "link"}, UnsafeFileError, "got a link link that leads out of it"),
        ({"location": "loop"}, ModelError, "loop"),
        ({"location": "pipe"}, UnsafeFileError, "expected a plain file, got a FIFO"),
        ({"location": "sub"}, ModelError, "expected the file sub, got none"),
        ({"location": "gone.data"}, ModelError, "lie in another file: .*the file gone.data, got none"),
        ({"offset": "3460"}, ModelError, r"'kernel': expected 432 bytes from byte 3,460 of net.onnx.data"),
        ({"offset": "-4"}, ModelError, "expected its offset as a whole number of 0 or more, got '-4'"),
        ({"offset": "9" * 400}, ModelError, "expected its offset as a whole number"),
        ({"length": "4"}, ModelError, "expected 432 bytes for its shape, got 4"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_and_wrong_places_are_refused(said, kind, text, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 4000)
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    path = _apart(folder, **said)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with pytest.raises(kind, match=text) as caught:
        load_model(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_link_within_the_folder_and_one_into_the_hubs_cache_are_followed(tmp_path):
    path = _apart(tmp_path)
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("net.onnx", "net.onnx.data"):
        shutil.copy(tmp_path / name, blobs / f"digest-of-{name}")
        (snapshot / name).symlink_to(blobs / f"digest-of-{name}")
    assert load_model(snapshot / "net.onnx").origin.sha256 == load_model(path).origin.sha256


def test_many_tensors_out_of_the_same_bytes_take_no_more_memory_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(1 << 26))
    path = _apart(tmp_path)
    model = onnx.load(path, load_external_data=False)
    (tmp_path / "net.onnx.data").write_bytes(b"\0" * (1 << 23))
    for number in range(64):
        one = model.graph.initializer.add()
        one.CopyFrom(model.graph.initializer[0])
        one.name = f"more{number}"
        one.dims[:] = [1 << 21]
        for entry in one.external_data:
            entry.value = {"offset": "0", "length": str(1 << 23)}.get(entry.key, entry.value)
    onnx.save(model, path)
    with pytest.raises(ModelError, match="--memory allows more"):
        load_model(path)


def test_more_than_one_file_can_hold_is_refused_before_the_work(tmp_path, monkeypatch):
    model = load_model(_apart(tmp_path))
    monkeypatch.setattr(onnx_format, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match="at most 100 bytes to write them into one ONNX file, got 3,888"):
        check_place(model, tmp_path / "out.onnx")
