from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
import torch

from detrojan.run import Run, SilentProgress


def draw(run: Run, *names: str | int) -> list[float]:
    return torch.rand(4, generator=run.generator(*names)).tolist()


def test_a_stream_is_the_same_whenever_it_is_asked_for():
    run = Run(seed=5)
    first = draw(run, "invert", 3)
    draw(run, "something else")
    assert draw(run, "invert", 3) == first
    assert draw(Run(seed=5), "invert", 3) == first


def test_streams_differ_by_name_number_and_seed():
    drawn = [draw(Run(seed=seed), "invert", label) for seed in (0, 1, -1) for label in (0, 1)]
    drawn.append(draw(Run(seed=0), "invert"))
    drawn.append(draw(Run(seed=0), "shuffle", 0))
    assert len({tuple(values) for values in drawn}) == len(drawn)


def test_a_seed_is_the_same_in_another_process():
    program = "from detrojan.run import Run; print(Run(seed=7).derived_seed('a', 1))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Run(seed=7).derived_seed("a", 1)


def test_derived_seeds_fit_a_generator():
    seeds = [Run(seed=number).derived_seed("x") for number in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    draw(Run(seed=1), "a")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_part_of_a_run_has_its_own_streams_and_keeps_the_rest(tmp_path):
    run = Run(seed=1, device="cpu", checkpoint=tmp_path)
    part = run.within("round", 2)
    assert draw(part, "a") != draw(run, "a")
    assert draw(part, "a") == draw(run.within("round", 2), "a")
    assert draw(part, "a") != draw(run.within("round", 3), "a")
    assert (part.device, part.checkpoint, part.progress) == (run.device, run.checkpoint, run.progress)


def test_a_run_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Run().seed = 3


def test_without_a_checkpoint_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Run().store("work", {})
    store.save({"x": torch.ones(1)}, {})
    assert store.load() is None
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_found_again_by_the_same_seed_only(tmp_path):
    Run(seed=1, checkpoint=tmp_path).store("work", {"a": 1}).save({"x": torch.ones(2)}, {"step": 4})
    found = Run(seed=1, checkpoint=tmp_path).store("work", {"a": 1}).load()
    assert found is not None
    assert found[1] == {"step": 4}
    assert Run(seed=2, checkpoint=tmp_path).store("work", {"a": 1}).load() is None
    assert Run(seed=1, checkpoint=tmp_path).store("work", {"a": 2}).load() is None
    assert Run(seed=1, checkpoint=tmp_path).store("other", {"a": 1}).load() is None


def test_silent_progress_says_nothing(capfd):
    with SilentProgress().task("work", 3) as outer, SilentProgress().task("part") as inner:
        outer.advance()
        inner.advance(2, note="half")
    assert capfd.readouterr() == ("", "")
