"""Hugging Face folders: the library's own logits, back and forth, and nothing of a folder is run."""

import json
import shutil
import socket

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from detrojan.cli.main import main
from detrojan.errors import ModelError, UnsafeFileError, WeightsError
from detrojan.models.loading import load_model, model_sha256
from detrojan.models.preprocessing import Framing
from detrojan.models.surgery.n_plus_one import n_plus_one
from detrojan.models.writing import save_model
from hugging import CONVNEXT, RESNET, SWIN, VIT


def _changed(model):
    changed = model.copy()
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.add_(0.01)
    return changed


def _edit(path, **entries):
    config = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    ("kind", "settings"), [("vit", VIT), ("resnet", RESNET), ("convnext", CONVNEXT), ("swin", SWIN)]
)
def test_logits_are_the_librarys_own_before_and_after_writing(
    folder, logits, images, tmp_path, kind, settings
):
    path, network = folder(kind, settings)
    model, batch = load_model(path), images(5, 3, 32, 32)
    assert (model.origin.format, model.num_classes, model.input_shape) == ("huggingface", 4, (3, 32, 32))
    assert model.class_names == ("cat", "dog", "owl", "fox")
    assert torch.allclose(model.all_logits(batch), logits(network, batch), atol=1e-4)
    assert model.preprocessing.framing == Framing(resize=(32, 32))
    changed = _changed(model)
    assert not torch.allclose(changed.all_logits(batch), model.all_logits(batch), atol=1e-3)
    (path / "README.md").write_text("mine")
    (path / "tf_model.h5").write_text("weights of the first network")
    out = save_model(changed, tmp_path / "out")
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
    assert {file.name for file in out.iterdir()} == wanted
    assert load_file(out / "model.safetensors").keys() == load_file(path / "model.safetensors").keys()
    plain = transformers.AutoModelForImageClassification.from_pretrained(out, local_files_only=True)
    for again in (load_model(out).all_logits(batch), logits(plain.eval(), batch)):
        assert torch.allclose(again, changed.all_logits(batch), atol=1e-4)
    one = load_model(save_model(changed, tmp_path / "one.safetensors"))
    assert torch.allclose(one.all_logits(batch), changed.all_logits(batch), atol=1e-5)
    assert one.class_names == model.class_names
    both = n_plus_one(model, changed, [1])
    again = load_model(save_model(both, tmp_path / "both.safetensors"))
    assert torch.allclose(again.all_logits(batch), both.all_logits(batch), atol=1e-5)


def test_weights_in_several_files_and_in_half_precision_stay_so(folder, images, tmp_path):
    path, _ = folder("vit", VIT, max_shard_size="20KB")
    index = "model.safetensors.index.json"
    shards = sorted(file.name for file in path.glob("model-*.safetensors"))
    assert len(shards) > 1
    extra = {"tail": torch.ones(2)}
    for shard in shards:
        tensors = {key: value.half() for key, value in load_file(path / shard).items()}
        save_file(tensors | extra, path / shard, {"format": "pt", "by": "me"})
        extra = {}
    model, batch = load_model(path), images(3, 3, 32, 32)
    changed = _changed(model)
    out = save_model(changed, tmp_path / "out")
    assert sorted(file.name for file in out.iterdir()) == sorted(file.name for file in path.iterdir())
    assert (out / index).read_text() == (path / index).read_text()
    for shard in shards:
        before, after = load_file(path / shard), load_file(out / shard)
        assert {key: value.dtype for key, value in after.items()} == dict.fromkeys(before, torch.float16) | (
            {"tail": torch.float32} if "tail" in before else {}
        )
    assert torch.allclose(load_model(out).all_logits(batch), changed.all_logits(batch), atol=0.05)
    (path / shards[0]).write_bytes((path / shards[0]).read_bytes() + b"0")
    assert model_sha256(path) != model.origin.sha256


def test_a_pickle_of_tensors_is_read_and_becomes_safetensors(folder, images, tmp_path):
    path, _ = folder()
    tensors = load_file(path / "model.safetensors")
    batch = images(3, 3, 32, 32)
    before = load_model(path).all_logits(batch)
    (path / "model.safetensors").unlink()
    torch.save(tensors, path / "pytorch_model.bin")
    model = load_model(path)
    assert torch.equal(model.all_logits(batch), before)
    out = save_model(model, tmp_path / "out")
    assert "pytorch_model.bin" not in {file.name for file in out.iterdir()}
    assert torch.equal(load_model(out).all_logits(batch), before)
    torch.save(tensors | {"more": Harmful()}, path / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match="nothing was run"):
        load_model(path, allow_unsafe=True)
    assert not HARM


HARM = []


class Harmful:
    def __reduce__(self):
        return HARM.append, (1,)


def test_nothing_is_run_and_nothing_is_fetched(folder, monkeypatch, tmp_path):
    path, _ = folder()
    (path / "modeling_own.py").write_text("open('/tmp/detrojan-ran', 'w')")

    def called(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", called)
    monkeypatch.setattr(socket, "getaddrinfo", called)
    _edit(path / "config.json", _name_or_path="someone/else", _attn_implementation="someone/kernels")
    model = load_model(path, allow_unsafe=True)
    assert not (save_model(model, tmp_path / "out") / "modeling_own.py").exists()
    for entries in (
        {"auto_map": {"AutoModelForImageClassification": "modeling_own.Own"}},
        {"auto_map": {"AutoConfig": "someone/else--configuration.Own"}},
        {"auto_map": None, "backbone_config": {"trust_remote_code": True}},
    ):
        _edit(path / "config.json", **entries)
        with pytest.raises(UnsafeFileError, match=r"needs code of its own .*nothing was run"):
            load_model(path, allow_unsafe=True)


@pytest.mark.parametrize(
    ("entries", "error", "text"),
    [
        (
            {"architectures": ["BertForSequenceClassification"]},
            ModelError,
            "judges image classifiers, and this is",
        ),
        ({"architectures": ["ViTModel"]}, ModelError, r"judges image classifiers, and this is a ViTModel"),
        (
            {"architectures": None, "model_type": "bert"},
            ModelError,
            r"transformers has none of the type 'bert'",
        ),
        (
            {"architectures": ["ResNetForImageClassification"]},
            ModelError,
            "expected ViTForImageClassification of",
        ),
        ({"model_type": "vitt"}, ModelError, r"expected a network that transformers .* knows, got 'vitt'"),
        ({"model_type": None}, ModelError, "expected the type of a network"),
        ({"hidden_act": "os.system"}, ModelError, "cannot be built"),
        ({"hidden_size": "16"}, ModelError, "makes no network"),
        ({"hidden_size": 32}, WeightsError, r"expected classifier.weight \(4, 32\), got \(4, 16\); .* more"),
        ({"num_hidden_layers": 3}, WeightsError, r"expected vit.*, got nothing; .*more"),
        ({"num_hidden_layers": 10**9}, WeightsError, "expected at most 4. parts"),
        ({"intermediate_size": 10**9}, WeightsError, r"expected 6\d,.* numbers, as its config.json"),
        ({"image_size": 40}, WeightsError, "position_embeddings"),
        ({"quantization_config": {"bits": 4}}, ModelError, "got quantization_config"),
        ({"id2label": {"0": "a", "2": "b"}}, ModelError, "expected id2label to name the classes"),
        ({"id2label": {"x": "a"}}, ModelError, "expected id2label to name classes by their numbers"),
    ],
)
def test_configs_that_make_no_classifier(folder, entries, error, text):
    path, _ = folder()
    _edit(path / "config.json", **entries)
    with pytest.raises(error, match=text):
        load_model(path)


def test_what_lies_in_the_folder_has_to_be_whole_and_its_own(folder, tmp_path):
    path, _ = folder("vit", VIT, max_shard_size="20KB")
    index = path / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    outside = tmp_path / "outside.safetensors"
    save_file({"x": torch.ones(1)}, outside)
    for name, text in (
        ("../outside.safetensors", "the name of a file in it"),
        ("none.safetensors", "got none"),
    ):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(names, name)}))
        with pytest.raises(ModelError, match=text):
            load_model(path)
    (path / "link.safetensors").symlink_to(outside)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "link.safetensors")}))
    with pytest.raises(ModelError, match="leads out of it"):
        load_model(path)
    index.write_text("[" * 100000)
    with pytest.raises(ModelError, match="expected JSON"):
        load_model(path)
    index.unlink()
    with pytest.raises(ModelError, match=r"expected the weights as model.safetensors or pytorch_model.bin"):
        load_model(path)


def test_the_hubs_cache_is_read_through_its_links(folder, images, tmp_path):
    path, _ = folder()
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "1f"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(path.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    cached, batch = load_model(snapshot), images(3, 3, 32, 32)
    assert torch.equal(cached.all_logits(batch), load_model(path).all_logits(batch))
    assert cached.origin.sha256 == load_model(path).origin.sha256
    out = save_model(cached, tmp_path / "out")
    assert not any(file.is_symlink() for file in out.iterdir())


def test_without_a_processor_that_is_said(folder):
    path, _ = folder("resnet", RESNET, processor=None)
    model = load_model(path)
    assert model.input_shape == (3, 224, 224)
    assert "no preprocessor_config.json says" in model.origin.notes[0]
    assert load_model(path, input_shape=(3, 64, 48)).input_shape == (3, 64, 48)
    vit, _ = folder("vit", VIT)
    with pytest.raises(
        ModelError, match=r"expected a network that runs on its own input size, got \(3, 40, 40\)"
    ):
        load_model(vit, input_shape=(3, 40, 40))


def test_scan_repair_and_guard_run_on_a_folder(folder, tmp_path):
    path, _ = folder("resnet", RESNET)
    pictures = np.random.default_rng(3).integers(0, 256, (260, 32, 32, 3)).astype(np.uint8)
    data = tmp_path / "clean.npz"
    np.savez(data, images=pictures)

    def call(*words):
        return CliRunner().invoke(main, [str(word) for word in words])

    how = ("--data", data, "--method", "neural_cleanse", "--set", "steps=3", "--set", "restarts=1")
    told = call("scan", path, *how, "--samples", 40, "--format", "json")
    assert told.exit_code in (0, 1, 3), told.output
    assert json.loads(told.stdout)["model"]["sha256"] == model_sha256(path)
    brief = [word for name in ("epochs", "updates", "norm_updates") for word in ("--set", f"{name}=1")]
    how = ("--data", data, "--blind", "--method", "fine_pruning", *brief, "--no-verify")
    told = call("repair", path, *how, "--out", tmp_path / "mended")
    assert told.exit_code in (1, 3), told.output
    assert transformers.AutoConfig.from_pretrained(tmp_path / "mended").model_type == "resnet"
    made = call("guard", "calibrate", path, "--method", "strip", "--data", data, "--out", tmp_path / "guard")
    assert made.exit_code == 0, made.output
    told = call("guard", "check", tmp_path / "guard", "--data", data, "--samples", 5)
    assert told.exit_code in (0, 1), told.output
