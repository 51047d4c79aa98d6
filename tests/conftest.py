"""What all tests share."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch

from detrojan.machine import keep_memory
from detrojan.search.pace import Pace
from kept import close_folder, open_folder
from margins import Margins, mark, shift_seeds
from twins import LARGE, Twins, make_twins

CHECKOUT = Path(__file__).resolve().parent.parent
#: the files that take longest: started first, so that no process waits at the end for another's
LONG = (
    "tests/scans/test_cascade.py",
    "tests/test_contracts.py",
    "tests/trainers/test_abl.py",
    "tests/repairs/test_adversarial.py",
    "tests/test_examples.py",
    "tests/benchmark/test_execute.py",
    "tests/attacks/test_dynamic.py",
    "tests/cli/test_scan.py",
    "tests/scans/test_neural_cleanse.py",
    "tests/repairs/test_unlearn.py",
    "tests/runner/test_processes.py",
    "tests/repairs/test_fine_pruning.py",
    "tests/repairs/test_mcr.py",
    "tests/cli/test_bench.py",
    "tests/scans/test_pixel.py",
    "tests/repairs/test_nad.py",
    "tests/attacks/test_issba.py",
    "tests/calls/test_answers_only.py",
    "tests/cli/test_fleet.py",
    "tests/cli/test_repair.py",
    "tests/deploy/test_pipelines.py",
    "tests/search/test_engine.py",
    "tests/repairs/test_direction_pruning.py",
    "tests/trainers/test_plain.py",
    "tests/test_architecture.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer other seeds, and a record of the margins."""
    parser.addoption("--seed-shift", type=int, default=0, help="move all seeds; 0 leaves them")
    parser.addoption("--margins", type=Path, help="add what is compared with what to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Move the seeds, record the margins, and share what is trained."""
    shift_seeds(config.getoption("--seed-shift"))
    if config.getoption("--margins"):
        config.pluginmanager.register(Margins(config.getoption("--margins")))
    folder = open_folder()
    config.add_cleanup(lambda: close_folder(folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in their order, and leave the others as they come."""
    mark(items)
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONG)))


@pytest.fixture(autouse=True)
def _few_threads():
    """Keep each test on two cores at most: more makes small networks slower, and results less steady."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _memory_is_kept():
    """Page faults cost more than the arithmetic of small networks."""
    keep_memory()


@pytest.fixture(scope="session", autouse=True)
def _one_pace():
    """Searches need not measure for each network what is fastest, nor compute as a busy moment has it."""
    with pytest.MonkeyPatch.context() as patch:
        pace = Pace(samples=256, threads=torch.get_num_threads())
        patch.setattr("detrojan.search.asking.find_pace", lambda _work, _device: pace)
        yield


@pytest.fixture(scope="session")
def twins() -> Twins:
    """Return a backdoored sign classifier and its clean twin, trained on the spot."""
    return make_twins()


@pytest.fixture(scope="session")
def large_twins() -> Twins:
    """Return the same of more pixels: for tests of what is done to a network, not of what is found in it."""
    return make_twins(LARGE)


@pytest.fixture(scope="session")
def keras():
    """Return Keras on torch: for comparison, and for its callback; the product itself never imports it."""
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras  # noqa: PLC0415 - after its backend is chosen

        keras.utils.set_random_seed(1)
        return keras


@pytest.fixture
def new_file(tmp_path, monkeypatch):
    """Return a function that adds a file to a package of ours, for one test, from outside the package."""
    added = []

    def add(package: str, name: str, text: str) -> None:
        folder = tmp_path / "added" / package
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(text, "utf-8")
        found = importlib.import_module(package)
        monkeypatch.setattr(found, "__path__", [*found.__path__, str(folder)])
        added.append(f"{package}.{name}")

    yield add
    for name in added:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets and third-party networks, or skip."""
    stated = os.environ.get("DETROJAN_TEST_DATA")
    folder = Path(stated) if stated else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DETROJAN_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def _logging_as_the_library_has_it():
    """The command line sets the package's loggers up: undo it, or tests of warnings depend on the order."""
    logger = logging.getLogger("detrojan")
    logger.handlers.clear()
    for one in (logger, logging.getLogger("detrojan.data.reading")):
        one.setLevel(logging.NOTSET)
