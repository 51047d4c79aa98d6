"""What tests train is trained once: every process of a session finds it in one folder.

The folder lives as long as the session, unless DETROJAN_TEST_NETWORKS names one that stays. A name in it
is a digest of all that the network depends on: the package's source, the caller's own source, what it
was called with, the versions of the libraries, and the processor.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

import detrojan
from detrojan.data.dataset import Dataset
from detrojan.models.classifier import Classifier
from detrojan.store import Store, Tensors, digest, tensor_digest
from margins import shifted

FOLDER = "DETROJAN_TEST_NETWORKS"
#: what makes the same instructions compute otherwise
PROCESSOR = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def open_folder() -> tempfile.TemporaryDirectory[str] | None:
    """Name a folder for this test run and the processes that it starts, unless one is named."""
    if FOLDER in os.environ:
        return None
    folder = tempfile.TemporaryDirectory(prefix="detrojan-test-networks-")
    os.environ[FOLDER] = folder.name
    return folder


def close_folder(folder: tempfile.TemporaryDirectory[str] | None) -> None:
    """Take the session's folder away."""
    if folder is not None:
        os.environ.pop(FOLDER, None)
        folder.cleanup()


@cache
def _surroundings() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(inspect.getfile(detrojan)).parent.rglob("*.py")):
        total.update(path.read_bytes())
    processor = [os.environ.get(name) for name in PROCESSOR]
    versions = (torch.__version__, np.__version__, platform.python_version(), torch.get_num_threads())
    total.update(repr((versions, processor, torch.backends.cpu.get_cpu_capability())).encode())
    return total.hexdigest()


def kept(name: str, make: Callable[[], Tensors], *depends: object) -> Tensors:
    """Return the tensors that `make` makes, or made before in a process of this test run.

    Args:
        name: the beginning of the file's name.
        make: what makes them; its source is part of what they depend on.
        depends: all else that they depend on: plain values, data, networks, tensors.

    """
    known = {
        "around": _surroundings(),
        "made by": inspect.getsource(inspect.getmodule(make)),
        "of": [_plain(part) for part in depends],
        "seeds": shifted(0),
    }
    store = Store(Path(os.environ[FOLDER]), name, known)
    assert store.path is not None
    store.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.path.with_suffix(".lock")):
        found = store.load()
        if found is not None:
            return found[0]
        made = make()
        store.save(made, {})
        return made


def trained_once(model: Classifier, train: Callable[[], object], *depends: object) -> Classifier:
    """Let `train` train the model, or give it the weights that came of that before; return the model."""

    def make() -> Tensors:
        train()
        return model.network.state_dict()

    start = digest(model.network)
    source = inspect.getsource(inspect.getmodule(train))
    model.network.load_state_dict(kept("network", make, start, source, *depends))
    model.network.eval()
    return model


def _plain(part: object) -> str:
    if isinstance(part, Dataset):
        return f"{tensor_digest(part.images)} {'' if part.labels is None else tensor_digest(part.labels)}"
    if isinstance(part, Classifier):
        return f"{digest(part.network)} {part.preprocessing}"
    return tensor_digest(part) if isinstance(part, torch.Tensor) else repr(part)
