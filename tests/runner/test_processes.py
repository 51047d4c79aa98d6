from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from detrojan.errors import DataError, DetrojanError, MissingExtraError, OptionError
from detrojan.machine import is_tuned
from detrojan.run import InTurn, Run
from detrojan.runner.here import Here
from detrojan.runner.processes import Processes


def drawn(shift, run, item):
    """Return numbers of this item's own stream, and where they were drawn; "b" takes longer than others."""
    time.sleep(0.4 if item == "b" else 0)
    numbers = torch.rand(3, generator=run.generator("part", item)) + shift
    return numbers, os.getpid(), torch.get_num_threads(), is_tuned()


def failing(run, item):
    if item == 2:
        raise DataError("expected better data")
    if item == 3:
        raise MissingExtraError("keras", "keras")
    if item == 4:
        raise KeyError("gone")
    return item


class Noted:
    """A progress that notes what it is told."""

    def __init__(self):
        self.said = []

    def task(self, title, total=None):
        self.said.append((title, total))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def advance(self, amount=1, *, note=None):
        self.said.append(amount)


def test_results_are_those_of_one_process_in_the_order_of_the_items_whichever_is_done_first():
    progress = Noted()
    job, items = partial(drawn, torch.tensor(2.0)), ["b", "a", "d", "c"]
    alone = list(Run(seed=4).map(job, items))
    apart = list(Run(seed=4, runner=Processes(2), progress=progress).map(job, items, title="drawing"))
    for (here, *_), (there, *_) in zip(alone, apart, strict=True):
        assert torch.equal(here, there)
    assert {pid for _, pid, *_ in alone} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid, *_ in apart}
    assert len({pid for _, pid, *_ in apart}) <= 2
    assert {threads for *_, threads, _ in apart} == {max(1, torch.get_num_threads() // 2)}
    assert {tuned for *_, tuned in apart} == {is_tuned()}
    assert progress.said[0] == ("drawing", 4)
    assert sum(progress.said[1:]) == 4


def test_one_item_or_one_process_need_no_other_process():
    for runner, items in ((Processes(3), ["a"]), (Processes(1), ["a", "b"]), (InTurn(), ["a", "b"])):
        found = list(Run(runner=runner).map(partial(drawn, torch.tensor(0.0)), items))
        assert {pid for _, pid, *_ in found} == {os.getpid()}
    with pytest.raises(OptionError, match="expected 1 process or more, got 0"):
        Processes(0)
    with pytest.raises(OptionError, match="expected 1 try or more, got 0"):
        Processes(1, tries=0)


ITEMS = [0, 1, 2, 3, 4, 5]


def hard(run, item):
    """Do the item, raise, or kill the process: an item of two parts the first time only."""
    if isinstance(item, Path):
        if item.exists():
            return "done by another"
        item.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 1:
        os._exit(3)
    return failing(run, item)


def test_an_error_is_the_items_own_and_a_part_whose_process_dies_is_done_by_another(tmp_path):
    items = [*ITEMS, tmp_path / "once"]
    found = sorted(Processes(2, tries=2).outcomes(hard, items, run=Run()), key=lambda one: one.place)
    assert [one.place for one in found] == list(range(7))
    assert [one.value for one in found] == [0, None, None, None, None, 5, "done by another"]
    kinds = [type(one.error) for one in found]
    none = type(None)
    assert kinds == [none, DetrojanError, DataError, MissingExtraError, RuntimeError, none, none]
    assert str(found[1].error) == "given up after 2 tries: its process ended with code 3"
    assert "in failing" in "".join(found[4].error.__notes__)
    assert [one.lost for one in found] == [False, True, False, False, False, False, False]
    assert len(found[1].deaths) == 2
    assert found[6].deaths == ("its process was ended by SIGKILL, as the system does where memory is short",)


@pytest.mark.parametrize(
    ("items", "kind", "says"),
    [
        ([0, 1, 2], DataError, "^2: expected better data$"),
        ([3, 0], MissingExtraError, "^3: keras is not installed"),
        ([2], DataError, "^expected better data$"),
    ],
)
def test_the_first_error_keeps_its_kind_and_names_the_item(items, kind, says):
    for runner in (InTurn(), Here()):
        with pytest.raises(kind, match=says):
            list(Run(runner=runner).map(failing, items))


def endless(run, item):
    """Wait, and say that it was asked to stop."""
    place = Path(item)
    place.with_suffix(".begun").write_text(str(os.getpid()))
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        place.with_suffix(".stopped").touch()
        raise


SCRIPT = """
import signal
import sys
from test_processes import endless
from detrojan.run import Run
from detrojan.runner.processes import Processes

if __name__ == "__main__":
    # what a shell starts in the background ignores Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        list(Run(runner=Processes(2)).map(endless, sys.argv[1:]))
    except KeyboardInterrupt:
        print("interrupted")
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_all_processes_after_they_have_saved(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    places = [tmp_path / "a", tmp_path / "b"]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path])
    started = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", *places], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    begun = [place.with_suffix(".begun") for place in places]
    until = time.monotonic() + 90
    while not all(path.exists() and path.read_text() for path in begun):
        assert time.monotonic() < until, started.communicate()
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)  # to the one alone: a terminal would ask all of them
    out, err = started.communicate(timeout=60)
    assert (out.strip(), started.returncode) == ("interrupted", 0), err
    assert "Traceback" not in err
    assert all(place.with_suffix(".stopped").exists() for place in places)
    assert not any(is_running(int(path.read_text())) for path in begun)
