from __future__ import annotations

import pytest

from detrojan.errors import ModelError
from detrojan.jobs.fleet.artifacts import stated_weights, weights_in
from detrojan.parsing.mlmodel import LARGEST, parse_mlmodel

ONNX = "flavors:\n  python_function:\n    data: model.onnx\n  onnx:\n    data: model.onnx\n"
TORCH = "flavors:\n  pytorch: {model_data: data, code: null}\n  python_function: {data: data}\n"
FOLDER = "flavors:\n  transformers: {model_binary: model}\n"


@pytest.fixture
def artifacts(tmp_path):
    """Return what makes a folder of artifacts out of its MLmodel and the names of its files."""

    def made(text, *names):
        for name in names:
            path = tmp_path / "artifacts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"{}")
        if text is not None:
            (tmp_path / "artifacts" / "MLmodel").write_text(text)
        return tmp_path / "artifacts"

    return made


def found(folder):
    return weights_in(folder, stated_weights(folder)).relative_to(folder).as_posix()


@pytest.mark.parametrize(
    ("text", "names", "weights"),
    [
        (ONNX, ["model.onnx", "other.onnx"], "model.onnx"),
        (TORCH, ["data/model.pth", "data/pickle_module_info.txt", "data/more.pt"], "data/model.pth"),
        (FOLDER, ["model/config.json", "model/model.safetensors"], "model"),
        (None, ["net.safetensors", "notes.txt"], "net.safetensors"),
        (None, ["model/config.json", "model/model.safetensors"], "model"),
        ("flavors: {python_function: {python_model: python_model.pkl}}", ["python_model.pkl"],
         "python_model.pkl"),
    ],
)  # fmt: skip
def test_the_weights_are_those_that_the_flavours_name(artifacts, text, names, weights):
    assert found(artifacts(text, *names)) == weights


@pytest.mark.parametrize("path", ["/etc/hostname", "../model.onnx", "a/../../x", "s3:x", "a\\b", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(artifacts, path):
    folder = artifacts(f"flavors: {{onnx: {{data: '{path}'}}}}", "model.onnx")
    with pytest.raises(ModelError, match="expected a path in this folder"):
        stated_weights(folder)


def test_a_link_that_leads_out_of_the_folder_is_refused(artifacts):
    folder = artifacts(TORCH, "data/notes.txt", "../model.pth")
    (folder / "data" / "model.pth").symlink_to(folder.parent / "model.pth")
    with pytest.raises(ModelError, match="expected a path in this folder"):
        found(folder)


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["data/model.pth", "data/model.pt2"], "model.pt2, model.pth"),
        (["data/a.pt", "data/b.pt"], "a.pt, b.pt"),
        (["data/notes.txt"], "notes.txt"),
        # MLflow loads the pickle, whatever else makes a model of the folder
        (["data/config.json", "data/model.safetensors", "data/model.pth"], "model.pth, data"),
    ],
)
def test_weights_that_cannot_be_told_are_an_error(artifacts, names, got):
    with pytest.raises(ModelError, match=f"expected one file of weights, got {got}$"):
        found(artifacts(TORCH, *names))
    with pytest.raises(ModelError, match="no such file or folder"):
        found(artifacts(ONNX, *names))


def test_flavours_with_different_weights_are_an_error(artifacts):
    folder = artifacts("flavors: {onnx: {data: m.onnx}, pytorch: {model_data: data}}", "m.onnx")
    with pytest.raises(ModelError, match="share their weights, got 'data' of 'pytorch' and"):
        stated_weights(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flavors: {onnx: {opset: 3}}", "a flavour that names a file of weights, got none"),
        ("flavors: [onnx]", "expected a table called 'flavors'"),
        ("- 1", "expected a table called 'flavors'"),
        ("a: [", "expected YAML"),
        ("!!python/object/apply:os.system ['touch /tmp/ran']", "expected YAML"),
        ("#" * (LARGEST + 1), "expected at most"),
    ],
)
def test_what_is_no_mlmodel_is_an_error_and_nothing_runs(artifacts, text, said):
    with pytest.raises(ModelError, match=said):
        stated_weights(artifacts(text, "model.onnx"))


def test_flavours_of_their_own_come_before_the_one_that_repeats_them(artifacts):
    folder = artifacts(ONNX, "model.onnx")
    assert [name for name, _ in parse_mlmodel(folder / "MLmodel")] == ["onnx", "python_function"]
