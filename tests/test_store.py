from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from detrojan import store as store_module
from detrojan.store import Store, digest, tensor_digest


def test_what_was_saved_is_loaded(tmp_path):
    store = Store(tmp_path / "deep" / "er", "scan", {"model": "abc"})
    tensors = {"mask": torch.rand(3, 4), "steps": torch.arange(5), "done": torch.tensor([True, False])}
    store.save(tensors, {"round": 2, "costs": [0.5, None], "name": "ä"})
    loaded, values = Store(tmp_path / "deep" / "er", "scan", {"model": "abc"}).load()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert loaded["done"].dtype == torch.bool
    assert values == {"round": 2, "costs": [0.5, None], "name": "ä"}


def test_views_and_gradients_are_saved_by_value(tmp_path):
    store = Store(tmp_path, "scan", {})
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    store.save({"turned": weight.t()}, {})
    assert torch.equal(store.load()[0]["turned"], weight.detach().t())


def test_the_last_state_wins_and_no_scratch_file_is_left(tmp_path):
    store = Store(tmp_path, "scan", {})
    for step in range(3):
        store.save({"x": torch.tensor([step])}, {"step": step})
    assert store.load()[1] == {"step": 2}
    assert list(tmp_path.iterdir()) == [store.path]


def test_a_full_disk_leaves_the_previous_state_and_is_warned_of_once(tmp_path, monkeypatch, caplog):
    store = Store(tmp_path, "scan", {})
    store.save({"x": torch.tensor([1])}, {"step": 1})

    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("disk full")

    monkeypatch.setattr(store_module, "save_file", half)
    for step in (2, 3):
        store.save({"x": torch.tensor([step])}, {"step": step})
    assert [one.getMessage() for one in caplog.records] == [
        f"no state is kept, since {tmp_path} cannot be written to: disk full"
    ]
    assert store.load()[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [store.path]


def test_another_fingerprint_is_another_file(tmp_path):
    one, two = (Store(tmp_path, "scan", {"labels": labels}) for labels in ([1, 2], [1, 3]))
    assert one.path != two.path
    assert one.path == Store(tmp_path, "scan", {"labels": [1, 2]}).path
    assert Store(tmp_path, "x", {"a": 1, "b": 2}).path == Store(tmp_path, "x", {"b": 2, "a": 1}).path


def test_a_cleared_state_is_gone_and_clearing_twice_is_fine(tmp_path):
    store = Store(tmp_path, "scan", {})
    store.save({}, {"step": 1})
    store.clear()
    store.clear()
    assert store.load() is None


def test_without_a_folder_nothing_is_written():
    store = Store(None, "scan", {})
    store.save({"x": torch.ones(1)}, {})
    store.clear()
    assert store.load() is None


class Evil:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize(
    "content",
    [b"", b"half", b"\xff" * 64, pickle.dumps(Evil()), json.dumps({"values": 1}).encode()],
    ids=["empty", "short", "noise", "pickle", "json"],
)
def test_a_broken_state_is_reported_and_not_used(tmp_path, monkeypatch, caplog, content):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "states", "scan", {})
    store.save({"x": torch.ones(3)}, {})
    store.path.write_bytes(content)
    assert store.load() is None
    assert f"the checkpoint {store.path} cannot be read and is not used" in caplog.text
    assert not (tmp_path / "executed").exists()


def test_a_truncated_state_is_not_used(tmp_path):
    store = Store(tmp_path, "scan", {})
    store.save({"x": torch.rand(100)}, {"step": 1})
    store.path.write_bytes(store.path.read_bytes()[:-50])
    assert store.load() is None


def test_a_digest_follows_values_and_shape_not_layout():
    values = torch.arange(6.0)
    assert tensor_digest(values) == tensor_digest(values.clone())
    assert tensor_digest(values) != tensor_digest(values.reshape(2, 3))
    assert tensor_digest(values) != tensor_digest(values + 1)
    turned = values.reshape(2, 3).t()
    assert tensor_digest(turned) == tensor_digest(turned.contiguous())


def test_a_networks_digest_covers_weights_and_buffers():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    before = digest(network)
    assert digest(network) == before
    network[1].running_mean += 1
    moved = digest(network)
    assert moved != before
    with torch.no_grad():
        network[0].weight[0, 0] += 1
    assert digest(network) not in {before, moved}
