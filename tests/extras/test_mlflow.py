"""Registries of MLflow: a real one in a database, and versions in a store that is not on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detrojan.errors import InputError
from detrojan.jobs.fleet.finding import find_models
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.run import Run
from hostile_models import Runs

pytest.importorskip("mlflow")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]
POLICY = '[scan]\nmethod = "head_rows"\n'


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Return the target, its client, and what registers a folder of artifacts as a version of `doors`."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - it may not be installed

    uri = f"sqlite:///{tmp_path}/registry.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("doors")
    return f"mlflow:{uri}", client, lambda source: client.create_model_version("doors", source=str(source))


def artifacts(folder, flavour, **said):
    """Make a folder of artifacts with the file MLmodel that MLflow itself writes."""
    from mlflow.models import Model  # noqa: PLC0415 - it may not be installed

    (folder / "data").mkdir(parents=True)
    model = Model()
    model.add_flavor(flavour, **said)
    model.add_flavor("python_function", loader_module=f"mlflow.{flavour}", data=next(iter(said.values())))
    model.save(str(folder / "MLmodel"))
    return folder


@pytest.fixture
def safe(tmp_path):
    folder = artifacts(tmp_path / "safe", "pytorch", model_data="data")
    net = start_net("mnist_cnn", (1, 20, 20), classes=8, run=Run())
    save_model(net, folder / "data" / "model.safetensors")
    return folder


def test_each_version_has_its_status_and_no_flavour_is_loaded(registry, safe, tmp_path):
    target, client, register = registry
    pickled = artifacts(tmp_path / "pickled", "pytorch", model_data="data")
    torch.save({"weight": Runs()}, pickled / "data" / "model.pth")
    outward = artifacts(tmp_path / "outward", "onnx", data="../safe/data/model.safetensors")
    for folder in (safe, pickled, outward, tmp_path / "gone"):
        register(folder)
    client.set_registered_model_alias("doors", "live", "1")
    (tmp_path / "policy.toml").write_text(POLICY)
    before = {one.name for one in tmp_path.iterdir()}

    def scan(what, out):
        return subprocess.run(
            [sys.executable, "-m", "detrojan", "fleet", "scan", what, "--policy", "policy.toml", "--out", out,
             "--engine", "here"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = scan(target, "out")
    assert done.returncode == 1, done.stderr
    models = json.loads((tmp_path / "out" / "fleet.json").read_text())["models"]
    assert [(one["name"], one["status"], one["category"]) for one in models] == [
        ("registry:doors/1", "scanned", None),
        ("registry:doors/2", "skipped", "unsafe"),
        ("registry:doors/3", "skipped", "unsupported"),
        ("registry:doors/4", "skipped", "missing"),
    ]
    assert models[0]["path"] == str(safe / "data" / "model.safetensors")
    assert "expected a path in this folder" in models[2]["reason"]
    assert "no such folder" in models[3]["reason"]
    assert {one.name for one in tmp_path.iterdir()} == before | {"out"}, "MLflow has made nothing"
    assert "1 unchanged, 0 scanned now" in scan(f"{target}#doors/1", "out").stderr
    assert [one.name for one in find_models([f"{target}#doors@live"]).models] == ["registry:doors/1"]


def test_what_a_store_elsewhere_holds_is_fetched_by_each_call_and_only_that(
    registry, safe, tmp_path, monkeypatch
):
    from mlflow.store.artifact import artifact_repository_registry as rooms  # noqa: PLC0415 - as above
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository  # noqa: PLC0415 - as above

    target, _, register = registry
    far = shutil.move(safe, tmp_path / "far")
    (far / "code").mkdir()
    (far / "code" / "own.py").touch()

    class Far(LocalArtifactRepository):
        def __init__(self, artifact_uri, *args, **more):
            super().__init__(f"file://{far}", *args, **more)

    monkeypatch.setitem(rooms._artifact_repository_registry._registry, "far", Far)
    register("far://bucket/doors")
    register("away://bucket/doors")
    first, second = find_models([target]).models
    assert not first.path.exists(), "nothing is fetched before its turn"
    path = first.fetch()
    assert path.read_bytes() == (far / "data" / "model.safetensors").read_bytes()
    folder = path.parents[1]
    assert folder.is_relative_to(tmp_path / "cache")
    assert sorted(one.name for one in folder.iterdir()) == ["MLmodel", "data"]
    save_file({"w": torch.zeros(2)}, far / "data" / "model.safetensors")
    assert first.fetch().read_bytes() == (far / "data" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="cannot fetch away://bucket/doors"):
        second.fetch()


def test_a_registry_that_cannot_be_read_is_an_error(registry, tmp_path):
    target, _, _ = registry
    with pytest.raises(InputError, match="names nothing"):
        find_models([f"{target}#windows"])
    Path(tmp_path / "notes.db").write_text("no database")
    with pytest.raises(InputError, match="cannot read the registry"):
        find_models([f"mlflow:sqlite:///{tmp_path}/notes.db"])
