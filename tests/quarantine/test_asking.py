"""What parsers hand back comes through, and whatever they do wrong becomes one clear error."""

import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import strange_parsers as parsers
from detrojan.errors import DataError, ModelError, UnsafeFileError
from detrojan.quarantine import asking, quarantined


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**63,
        2.5,
        float("inf"),
        "ü\ud800",
        [1, [2]],
        (1, (2,)),
        {"a": {3: (4,)}, None: []},
        b"\0x",
    ],
)
def test_plain_values_come_back_as_they_were(file, value):
    if isinstance(value, bytes):
        value = {"bytes": value.decode()}
    found = quarantined(parsers.gives, file, value)
    assert found == value
    assert type(found) is type(value)


def test_arrays_are_handed_in_too(file):
    value = {"images": np.arange(6, dtype=np.float32).reshape(2, 3), "raw": b"abc"}
    found = quarantined(parsers.gives, file, value)
    np.testing.assert_array_equal(found["images"], value["images"])
    assert found["raw"] == b"abc"


def test_arrays_come_back_by_shared_memory(file):
    found, wanted = quarantined(parsers.gives_arrays, file), parsers.gives_arrays(file)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name != "bytes":
            assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    found["float"][0, 0] = 5  # ours alone
    assert not found["float"].flags.owndata


def test_tensors_come_back(file):
    found, wanted = quarantined(parsers.gives_tensors, file), parsers.gives_tensors(file)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize(
    ("parse", "args", "says"),
    [
        (parsers.gives_deep, [100], "it holds values nested deeper than 64"),
        (parsers.gives_an_object, [], "it holds a object, which is not a plain value"),
        (parsers.gives_a_huge_number, [], "it holds a number that needs more than 64 bits"),
        (parsers.raises, ["other"], "damaged, or not what it seems: ZeroDivisionError: by zero"),
        (parsers.raises, ["exit"], "damaged, or not what it seems: SystemExit: 3"),
        (
            parsers.raises,
            ["memory"],
            r"expected a file that is read in 1\.6 GB of memory.*--memory allows more",
        ),
        (parsers.recurses, [], "expected values that are not nested too deep"),
        (parsers.crashes, [], "made to break its reader: the reading ended with SIGSEGV; nothing was used"),
        (parsers.ends, [], "the reading ended with no answer"),
    ],
)
def test_each_end_has_its_words(file, parse, args, says):
    with pytest.raises(ModelError, match=says) as caught:
        quarantined(parse, file, *args)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert quarantined(parsers.gives, file, 1) == 1


def test_the_caller_says_which_error_it_is(file):
    with pytest.raises(DataError, match="no answer"):
        quarantined(parsers.ends, file, failure=DataError)


def test_the_errors_of_parsers_come_back_as_such(file):
    with pytest.raises(UnsafeFileError, match=r"^it would run code$"):
        quarantined(parsers.raises, file, "ours")
    with pytest.raises(asking.MissingExtraError, match=r"pip install \"detrojan\[onnx\]\"") as caught:
        quarantined(parsers.raises, file, "missing")
    assert (caught.value.library, caught.value.extra) == ("onnx", "onnx")


def test_paths_start_where_the_caller_stands(file, monkeypatch):
    quarantined(parsers.gives, file, 1)
    monkeypatch.chdir(file.parent)
    assert quarantined(parsers.holds, Path(file.name)) == b"some bytes"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux only")
@pytest.mark.parametrize("parse", [parsers.takes, parsers.hands_back])
def test_memory_is_limited(file, small, parse):
    assert quarantined(parse, file, 10_000_000) is not None
    with pytest.raises(ModelError, match=r"read in 0\.2 GB of memory, got one that needs more; --memory"):
        quarantined(parse, file, 400_000_000)


@pytest.mark.parametrize("parse", [parsers.computes, parsers.sleeps])
def test_time_is_limited(file, short, parse):
    started = time.monotonic()
    with pytest.raises(ModelError, match="expected a file that is read in 1 s, got one that takes longer"):
        quarantined(parse, file)
    assert time.monotonic() - started < 20


def test_nothing_is_written(file, tmp_path):
    with pytest.raises(ModelError, match="OSError"):
        quarantined(parsers.writes, file, str(tmp_path / "written"))
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").read_bytes()


def test_nothing_is_said(file, capfd):
    assert quarantined(parsers.speaks, file) == "said"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only sealed memory tells")
@pytest.mark.skipif(os.geteuid() != 0, reason="others may not start processes at all")
def test_what_somebody_may_still_write_to_is_not_used(file):
    with pytest.raises(ModelError, match="cannot be read"):
        quarantined(parsers.writes_later, file)


def test_a_child_that_is_killed_is_started_again(file):
    assert quarantined(parsers.gives, file, 1) == 1
    asking._CHILD.process.kill()
    asking._CHILD.process.wait()
    assert quarantined(parsers.gives, file, 2) == 2


def test_without_processes_the_parser_runs_here_and_a_note_says_so(file, caplog, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no more processes")

    monkeypatch.setattr(asking, "_CHILD", asking._Child())
    monkeypatch.setattr(asking.subprocess, "Popen", refuse)
    with caplog.at_level(logging.WARNING):
        assert quarantined(parsers.gives, file, 1) == 1
        assert quarantined(parsers.gives, file, 2) == 2
    assert caplog.text.count("files are parsed in this process, without limits of memory and time") == 1
    with pytest.raises(ModelError, match="expected values that are not nested too deep"):
        quarantined(parsers.recurses, file)
    with pytest.raises(ModelError, match="--memory allows more"):
        quarantined(parsers.raises, file, "memory")
