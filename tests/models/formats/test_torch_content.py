"""What lies beside the weights is harmless or refused, and is kept on writing."""

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS
from detrojan.models.writing import save_model


def _state(name="sign_cnn"):
    torch.manual_seed(4)
    net = NETS[name]
    return net.build(net.classes, net.shape).state_dict()


BESIDE = {
    "scalar": np.float64(0.5),
    "count": np.int64(7),
    "flag": np.bool_(True),
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "options": argparse.Namespace(lr=0.1, name="x"),
    "when": dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
    "where": Path("/a/b"),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_harmless_things_beside_the_weights_are_read_and_kept(tmp_path, legacy):
    state = _state()
    torch.save({"net": state, **BESIDE}, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    model = load_model(tmp_path / "m.pth")
    assert model.origin.net == "sign_cnn"
    save_model(model, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=False)
    assert list(again) == ["net", *BESIDE]
    for name, value in BESIDE.items():
        assert type(again[name]) is type(value)
        np.testing.assert_array_equal(again[name], value)


def test_a_repaired_lightning_checkpoint_is_one_still(tmp_path):
    state = {f"model.{name}": tensor for name, tensor in _state().items()}
    state["loss.weight"] = torch.arange(5.0)
    content = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.25)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(9, 9)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "width": 16},
    }
    torch.save(content, tmp_path / "last.ckpt")
    model = load_model(tmp_path / "last.ckpt", factory=f"{__name__}:signs", input_shape=(3, 32, 32))
    with torch.no_grad():
        next(iter(model.network.parameters())).zero_()
    save_model(model, tmp_path / "repaired.ckpt")
    again = torch.load(tmp_path / "repaired.ckpt", weights_only=True)
    assert list(again) == list(content)
    assert list(again["state_dict"]) == list(state)
    changed = [key for key, tensor in again["state_dict"].items() if not torch.equal(tensor, state[key])]
    assert changed == [next(iter(state))]
    for key in content.keys() - {"state_dict", "optimizer_states", "callbacks"}:
        assert again[key] == content[key]
    assert torch.equal(again["optimizer_states"][0]["state"][0]["exp_avg"], torch.zeros(9, 9))


def signs():
    """Return the network that the checkpoints here hold."""
    net = NETS["sign_cnn"]
    return net.build(net.classes, net.shape)


def test_weights_alone_are_written_where_the_original_is_gone(tmp_path, caplog):
    torch.save({"net": _state(), "epoch": 3}, tmp_path / "m.pth")
    model = load_model(tmp_path / "m.pth")
    (tmp_path / "m.pth").unlink()
    save_model(model, tmp_path / "again.pth")
    assert list(torch.load(tmp_path / "again.pth", weights_only=True)) == ["net"]
    assert "is not kept" in caplog.text


class Runs:
    """A pickle of this prints when it is loaded."""

    def __reduce__(self):
        return print, ("ran",)


def test_anything_else_is_still_refused(tmp_path, capsys):
    torch.save({"net": _state(), **BESIDE, "more": Runs()}, tmp_path / "m.pth")
    with pytest.raises(UnsafeFileError, match="print"):
        load_model(tmp_path / "m.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("legacy", [False, True])
def test_options_are_checked_before_code_runs(tmp_path, capsys, legacy):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    path = tmp_path / "m.pt"
    torch.save({"model": network, "more": Runs()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"--input-shape, --net or --factory; .* was not run"):
        load_model(path, allow_unsafe=True)
    assert capsys.readouterr().out == ""
    assert load_model(path, allow_unsafe=True, input_shape=(3, 8, 8)).num_classes == 5
    assert capsys.readouterr().out == "ran\n"


def test_a_text_model_is_named(tmp_path):
    state = {
        "bert.embeddings.word_embeddings.weight": torch.zeros(30, 4),
        "classifier.weight": torch.zeros(2, 4),
    }
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"detrojan judges image classifiers; 'bert.embeddings.word"):
        load_model(tmp_path / "m.pt")
