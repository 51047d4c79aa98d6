"""Folders that timm writes for the hub: its own logits, back and forth, and no download."""

import json

import pytest
import torch

from detrojan.errors import ModelError, UnsafeFileError, WeightsError
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

timm = pytest.importorskip("timm", reason="timm is not installed: make test-extras runs this")


@pytest.fixture
def folder(tmp_path):
    """A folder as timm writes it, and its network."""
    torch.manual_seed(5)
    network = timm.create_model("test_vit", num_classes=3).eval()
    path = tmp_path / "folder"
    named = {"num_classes": 3, "label_names": ["cat", "dog", "owl"]}
    timm.models.save_for_hf(network, path, model_config=named, safe_serialization=True)
    return path, network


def test_logits_are_timms_own_before_and_after_writing(folder, tmp_path):
    path, network = folder
    model = load_model(path)
    assert (model.input_shape, model.class_names) == ((3, 160, 160), ("cat", "dog", "owl"))
    pre = model.preprocessing
    batch = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(4))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (pre.mean, pre.std))
    with torch.no_grad():
        assert torch.allclose(model.all_logits(batch), network((batch - mean) / std), atol=1e-4)
        changed = model.copy()
        for parameter in changed.network.parameters():
            parameter.add_(0.01)
    out = save_model(changed, tmp_path / "out")
    assert torch.allclose(load_model(out).all_logits(batch), changed.all_logits(batch), atol=1e-4)
    plain = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.allclose(plain((batch - mean) / std), changed.all_logits(batch), atol=1e-4)
    one = load_model(save_model(changed, tmp_path / "one.safetensors"))
    assert torch.allclose(one.all_logits(batch), changed.all_logits(batch), atol=1e-4)
    assert (one.preprocessing, one.class_names) == (pre, model.class_names)


@pytest.mark.parametrize(
    ("entries", "error", "text"),
    [
        ({"architecture": "hf-hub:someone/else"}, ModelError, "expected a network that timm"),
        ({"architecture": "test_resnet", "model_args": {}}, WeightsError, "do not fit test_resnet"),
        (
            {"model_args": {"checkpoint_path": "/etc/passwd"}},
            ModelError,
            "expected options of its network out of",
        ),
        ({"model_args": {"pretrained": True}}, ModelError, "expected options of its network out of"),
        ({"model_args": {"depth": 10**9}}, WeightsError, "expected at most"),
        ({"model_args": {"embed_dim": 640000}}, WeightsError, "numbers, as its config.json describes"),
        ({"model_args": {"act_layer": 5}}, ModelError, "cannot be built"),
        ({"num_classes": -1}, ModelError, "expected a number of classes"),
        ({"pretrained_cfg": {"input_size": [3, 10**9, 4]}}, ModelError, "preprocessing cannot be read"),
        ({"pretrained_cfg": {"mean": ["x"]}}, ModelError, "preprocessing cannot be read"),
        ({"auto_map": {"AutoModel": "own.Own"}}, UnsafeFileError, "nothing was run"),
    ],
)
def test_configs_that_make_no_network(folder, entries, error, text):
    path, _ = folder
    config = json.loads((path / "config.json").read_text()) | entries
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=text):
        load_model(path)
