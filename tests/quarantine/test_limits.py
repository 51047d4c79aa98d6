import pytest

from detrojan.errors import DataError, OptionError
from detrojan.quarantine import limits


def test_a_file_gets_more_the_larger_it_is():
    small, large = limits.limits_for(0), limits.limits_for(10**9)
    assert small.memory == limits.MEMORY
    assert large.memory == limits.MEMORY + 4 * 10**9
    assert (small.seconds, large.seconds) == (20, 220)


def test_memory_is_stated_for_this_process_and_its_children(monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, "1")
    limits.allow_memory(10**9)
    assert limits.limits_for(0).memory == 10**9
    with pytest.raises(OptionError, match="expected a memory of 64 MB or more, got 5 bytes"):
        limits.allow_memory(5)
    monkeypatch.setenv(limits.VARIABLE, "much")
    assert limits.memory() == limits.MEMORY


def test_a_sparse_file_counts_for_what_it_stores(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert limits.stored_size(path) < 1 << 20
    assert limits.stored_size(tmp_path / "none") == 0


def test_what_takes_too_much_is_refused():
    limits.check_room(10**9, "a.npz: its images", DataError)
    with pytest.raises(
        DataError, match=r"a.npz: its images: expected at most 1.6 GB of memory, got .* 20.0 GB; --"
    ):
        limits.check_room(2 * 10**10, "a.npz: its images", DataError)
    limits.check_room(2 * 10**10, "a.npz: its images", DataError, files=5 * 10**9)
