from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from detrojan.cli.main import VERBS
from detrojan.models.loading import load_model
from detrojan.models.metadata import metadata_of


def said(done):
    return " ".join(done.stderr.split())


@pytest.fixture
def wrong(world, cli, tmp_path):
    """Make a file of each kind that can be wrong."""
    state = {"0.weight": torch.zeros(3, 3), "0.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "other_net.pt")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["data"] = np.zeros((50, 1, 16, 16))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:3000])
    model = load_model(world.model)
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    weights["0.weight"][0] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors", metadata_of(model))

    class Runs:
        def __reduce__(self):
            return print, ("it ran",)

    (tmp_path / "code.pt").write_bytes(pickle.dumps({"model": Runs()}))
    stream = io.BytesIO()
    torch.save(Runs(), stream)
    (tmp_path / "code_zip.pt").write_bytes(stream.getvalue())
    cli.npz(tmp_path / "bytes_as_floats.npz", images=lambda images: images.astype(np.float32))
    cli.npz(tmp_path / "empty.npz", images=lambda images: images[:0], labels=lambda labels: labels[:0])
    cli.npz(tmp_path / "short.npz", labels=lambda labels: labels[:-1])
    cli.npz(tmp_path / "colour.npz", images=lambda images: images.repeat(3, 3))
    np.savez(tmp_path / "unlabelled.npz", images=cli.blobs(50, 1)[0])
    return tmp_path


BAD = [
    ("gone.safetensors", None, (), "does not exist"),
    ("cut.h5", None, (), "cut.h5"),
    ("other_net.pt", None, ("--net", "mnist_cnn"), "other_net.pt"),
    (None, None, ("--net", "deepid"), "model.safetensors"),
    (None, None, ("--classes", "10"), "expected 10 classes as asked, got 6 outputs"),
    ("nan.safetensors", None, (), "expected finite weights, got"),
    ("code.pt", None, ("--net", "mnist_cnn"), "code.pt"),
    ("code_zip.pt", None, ("--net", "mnist_cnn"), "code_zip.pt"),
    (None, "gone.npz", (), "there is no file or folder"),
    (None, "bytes_as_floats.npz", (), "expected images in [0, 1], got max"),
    (None, "bytes_as_floats.npz", ("--data-range", "0-1"), "expected images in [0, 1] as stated, got max"),
    (None, "empty.npz", (), "expected at least one image, got none"),
    (None, "short.npz", (), "label"),
    (None, "colour.npz", ("--channels", "colour"), "expected grey images 16 high x 16 wide"),
]


@pytest.mark.parametrize(("model", "data", "words", "says"), BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(world, cli, wrong, model, data, words, says):
    done = cli.call(
        "scan",
        wrong / model if model else world.model,
        "--data",
        wrong / data if data else world.data,
        *words,
    )
    assert done.exit_code == 2, done.output
    assert said(done).startswith("error: ")
    assert says in said(done)
    assert "Traceback" not in done.output
    assert "it ran" not in done.output
    assert done.stdout == ""


def test_a_label_missing_is_an_error_where_labels_are_needed(world, cli, wrong):
    done = cli.call("evaluate", world.model, "--data", wrong / "unlabelled.npz")
    assert done.exit_code == 2
    assert "expected labelled data to evaluate with, got images without labels" in said(done)
    done = cli.call("evaluate", world.model, "--data", wrong / "unlabelled.npz", "--unlabelled")
    assert done.exit_code == 0, done.output


USAGE = [
    (("scan",), "Missing argument 'MODEL'"),
    (("scan", "m.h5"), "Missing option '--data'"),
    (("scan", "m.h5", "--data", "d", "--labels", "9-1"), "expected labels and ranges of them, e.g. 0-39,77"),
    (("scan", "m.h5", "--data", "d", "--input-range", "5"), "expected a range, low before high"),
    (("scan", "m.h5", "--data", "d", "--input-shape", "3x5"), "expected CxHxW, e.g. 3x55x47, got '3x5'"),
    (("scan", "m.h5", "--data", "d", "--mean", "a"), "expected finite numbers with commas between them"),
    (("scan", "m.h5", "--data", "d", "--method", "magic"), "expected one of the scans attractor"),
    (("scan", "m.h5", "--data", "d", "--set", "steps"), "expected NAME=VALUE, got 'steps'"),
    (
        ("scan", "m.h5", "--data", "d", "--set", "patch_steps=many"),
        "expected patch_steps as a whole number, got 'many'",
    ),
    (("scan", "m.h5", "--data", "d", "--set", "candidates=0"), "expected candidates of 1 or more and"),
    (("scan", "m.h5", "--data", "d", "--device", "abacus"), "expected a device that torch can use"),
    (("judge",), "No such command 'judge'"),
    (("evaluate", "m", "--data", "d", "--target", "1"), "expected --trigger FILE with --target"),
    (("evaluate", "m", "--data", "d", "--trigger", "t"), "expected --target LABEL or --untargeted"),
    (("predict", "m"), "expected pictures or --data"),
    (("attack", "badnets", "--data", "d"), "Missing option"),
]


@pytest.mark.parametrize(("words", "says"), USAGE)
def test_wrong_usage_is_exit_code_4(cli, words, says):
    done = cli.call(*words)
    assert done.exit_code == 4, done.output
    assert says in said(done)
    assert "Traceback" not in done.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_ends_with_an_example(cli, verb):
    done = cli.call(verb, "--help")
    assert done.exit_code == 0
    assert f"detrojan {verb}" in done.stdout.rpartition("Example")[2]


def test_help_is_fast_as_torch_is_not_imported():
    code = (
        "import sys\nfrom detrojan.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit:\n"
        "    print([n for n in ('torch', 'numpy', 'rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_an_unforeseen_error_is_one_line_unless_debugging(cli, monkeypatch, world):
    monkeypatch.setattr("detrojan.jobs.inputs.load_model", lambda *a, **k: 1 / 0)
    done = cli.call("scan", world.model, "--data", world.data)
    assert done.exit_code == 2
    assert said(done) == (
        "internal error: ZeroDivisionError: division by zero; --debug shows where; "
        "this is a fault of detrojan: report it to the project's issue tracker with the log"
    )
    done = cli.call("scan", world.model, "--data", world.data, "--debug")
    assert "Traceback" in done.stderr


def test_names_from_files_cannot_move_the_cursor(cli, tmp_path):
    done = cli.call("scan", tmp_path / "\x1b[2Jgone.h5", "--data", "signs")
    assert done.exit_code == 2
    assert "\x1b" not in done.output


def test_results_that_cannot_be_written_are_refused_before_the_work(world, cli, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli.call("scan", world.model, "--data", world.data, "--json", tmp_path / "file" / "a.json")
    assert done.exit_code == 2
    assert "no folder that can be written to" in said(done)
    done = cli.call("scan", world.model, "--data", world.data, "--html", tmp_path)
    assert "expected a file to write to, got the folder" in said(done)
    done = cli.call("scan", world.model, "--data", world.data, "--triggers", tmp_path / "file")
    assert done.exit_code == 2
    assert "expected a folder to write to, got the file" in said(done)


def test_a_file_without_class_names_is_refused(world, cli, tmp_path):
    (tmp_path / "names").write_text("\n\n")
    done = cli.call("evaluate", world.model, "--data", world.data, "--class-names", tmp_path / "names")
    assert done.exit_code == 2
    assert "expected a name per line or a JSON list of names, got none" in said(done)


def test_lists_name_methods_with_their_hyper_parameters(cli):
    done = cli.call("list", "scans", "--format", "json")
    (entry,) = [entry for entry in json.loads(done.stdout) if entry["name"] == "neural_cleanse"]
    steps = next(field for field in entry["hyper_parameters"] if field["name"] == "steps")
    assert steps["default"] == 100
    assert steps["type"] == "a whole number"
    assert "optimisation steps" in steps["meaning"]
    assert "Wang" in entry["reference"]
    listed = json.loads(cli.call("list", "repairs", "--format", "json").stdout)
    repairs = {entry["name"]: entry for entry in listed}
    assert repairs["prune"]["needs_triggers"] is True
    assert repairs["nad"]["needs_triggers"] is False
    assert cli.call("list", "repairs").stdout.count("needs no trigger: can repair --blind") == 6
    everything = json.loads(cli.call("list", "--format", "json").stdout)
    assert {"attacks", "scans", "repairs", "nets", "formats", "data"} <= everything.keys()
    assert "deepid" in cli.call("list", "nets").stdout
