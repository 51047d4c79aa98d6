from __future__ import annotations

import signal

from detrojan.errors import DataError
from detrojan.run import Run
from detrojan.runner.worker import EVERY, Notes, done


def act(run, item):
    raise item


def test_a_part_ends_in_one_of_three_ways():
    before = signal.getsignal(signal.SIGINT)
    try:
        assert done(lambda _run, item: item + 1, Run(), 2) == ("done", 3)
        assert done(act, Run(), KeyboardInterrupt()) == ("stopped",)
        kind, *rest = done(act, Run(), DataError("expected more"))
        assert (kind, *rest[:2]) == ("failed", "DataError", "expected more")
        assert "in act" in rest[2]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_does_not_disturb_the_saving():
    def saving(_run, _item):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            return "saved"

    before = signal.getsignal(signal.SIGINT)
    try:
        assert done(saving, Run(), None) == ("done", "saved")
    finally:
        signal.signal(signal.SIGINT, before)


def test_notes_come_now_and_then_and_nobody_need_listen(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("detrojan.runner.worker.time.monotonic", lambda: clock[0])
    said = []
    notes = Notes(said.append)
    with notes.task("searching", 4) as task:
        task.advance(1)
        task.advance(1)
        clock[0] += EVERY
        task.advance(1)
    with notes.task("counting") as task:
        clock[0] += EVERY
        task.advance(9)
    assert said == ["searching 25%", "searching 75%", "counting"]

    def deaf(_text):
        raise BrokenPipeError

    with Notes(deaf).task("searching", 1) as task:
        task.advance(1)
