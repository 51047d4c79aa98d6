from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from detrojan.errors import DataError, InputError, OptionError
from detrojan.jobs.fleet.finding import find_models, read_list


def names(targets, folder):
    return [
        found.name.replace(f"{folder}/", "") for found in find_models([str(one) for one in targets]).models
    ]


@pytest.fixture
def folder(tmp_path):
    """A folder with models by ending and by content, a model folder, and what is no model."""
    for name in ("b.pt", "a.onnx", "deep/c.h5", "hf/config.json", "hf/model.safetensors", "page.html"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
    save_file({"w": torch.zeros(2)}, tmp_path / "weights")
    (tmp_path / ".hidden").write_text("x")
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "outward.pt").symlink_to("/etc/hostname")
    (tmp_path / "inward.pt").symlink_to("b.pt")
    return tmp_path


def test_a_folder_holds_files_by_ending_or_content_and_folders_that_are_models(folder):
    search = find_models([str(folder)])
    assert names([folder], folder) == ["a.onnx", "b.pt", "deep/c.h5", "hf", "inward.pt", "weights"]
    assert search.ignored == 4


def test_patterns_files_and_folders_each_name_a_model_once(folder):
    assert names([folder / "*.pt", folder / "b.pt", folder / "deep"], folder) == [
        "b.pt", "inward.pt", "outward.pt", "deep/c.h5",
    ]  # fmt: skip
    with pytest.raises(InputError, match="names nothing"):
        find_models([str(folder / "*.keras")])


def test_the_hubs_cache_gives_a_model_for_each_snapshot(tmp_path):
    for name, files in (("models--org--net/snapshots/0123456789", ("config.json",)),
                        ("models--solo/snapshots/aa", ("net.onnx", "README.md"))):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
        for file in files:
            (tmp_path / name / file).write_text("{}")
    assert names([tmp_path], tmp_path) == ["org/net@01234567", "solo@aa/net.onnx"]


def test_the_folder_of_the_results_is_not_looked_into_and_names_are_unique(folder, tmp_path):
    (folder / "deep" / "out").mkdir()
    (folder / "deep" / "out" / "label_3.safetensors").touch()
    found = find_models([str(folder / "deep")], without=folder / "deep" / "out")
    assert [one.path.name for one in found.models] == ["c.h5"]
    (tmp_path / "l.csv").write_text("name,model\nx,a.pt\nx,b.pt\n")
    with pytest.raises(OptionError, match="got 'x' twice"):
        find_models([str(tmp_path / "l.csv")])


def test_a_list_states_how_each_model_is_fed_and_on_what_it_is_judged(tmp_path):
    (tmp_path / "own.npz").touch()
    (tmp_path / "list.csv").write_text(
        "name,Model,input-range,input_shape,data,mean,bgr\n"
        'first,a.pt,0-255,3x32x32,own.npz,"0.5,0.4,0.3",yes\n'
        ",b.pt,auto,,signs,,\n"
        ",c.pt,255-0,,,,\n"
    )
    first, second, third = find_models([str(tmp_path / "list.csv")]).models
    assert (first.name, first.path) == ("first", tmp_path / "a.pt")
    source = first.stated.model_source(first.path)
    assert (source.input_range, source.input_shape) == ((0, 255), (3, 32, 32))
    assert (source.mean, source.bgr) == ((0.5, 0.4, 0.3), True)
    assert first.stated.data_source().data == str(tmp_path / "own.npz")
    assert (second.stated.input_range, second.stated.data) == ("auto", "signs")
    assert "low before high" in third.problem


def test_lines_of_json_are_a_list_too(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps({"path": "a.pt", "std": [1, 2, 3], "classes": 4}) + "\n\n")
    (found,) = read_list(path)
    assert (found.stated.std, found.stated.classes) == ((1, 2, 3), 4)


@pytest.mark.parametrize(
    ("name", "text", "kind", "says"),
    [
        ("l.csv", "name\nx\n", DataError, "expected a model in a column called model or path or file"),
        ("l.csv", "model\na,b\n", DataError, "as many cells as there are columns"),
        ("l.jsonl", "[1]\n", DataError, "expected an object of plain values"),
        ("l.jsonl", "{\n", DataError, "line 1: expected an object of JSON"),
        ("l.csv", "model,factory\na.pt,os:system\n", InputError, "it runs code"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path, name, text, kind, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(kind, match=says):
        find_models([str(tmp_path / name)])
