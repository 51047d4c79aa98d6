"""What was trained is kept by everything that it depends on, also where two runs make the same."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from detrojan.benchmark.cache import Cache
from detrojan.errors import InputError


def entries(folder: Path) -> list[Path]:
    """Return what lies in a cache beside its locks."""
    return [path for path in folder.iterdir() if path.name != "locks"]


class Maker:
    """Makes, writes and reads a text; counts how often it made one."""

    def __init__(self, text: str = "made") -> None:
        self.text, self.count = text, 0

    def make(self, _folder: Path) -> str:
        self.count += 1
        return self.text

    def write(self, made: str, folder: Path) -> dict[str, object]:
        (folder / "text").write_text(made, "utf-8")
        return {"length": len(made)}

    def read(self, folder: Path, record: dict[str, object]) -> str:
        text = (folder / "text").read_text("utf-8")
        assert len(text) == record["length"]
        return text

    def get(self, cache: Cache, code: str = "code") -> str:
        made, _record = cache.get(
            "thing", {"seed": 1}, code, make=self.make, write=self.write, read=self.read
        )
        return made


def test_what_was_made_is_read_the_second_time_and_made_again_by_other_code(tmp_path):
    cache, maker = Cache(folder=tmp_path / "cache"), Maker()
    assert [maker.get(cache), maker.get(cache)] == ["made", "made"]
    assert maker.count == 1
    maker.get(cache, "other code")
    assert maker.count == 2
    maker.get(Cache(folder=cache.folder, any_code=True))
    assert maker.count == 2
    (place,) = entries(cache.folder)  # nothing half-written is left beside it
    assert sorted(path.name for path in place.iterdir()) == ["made.json", "text"]


def test_two_runs_that_make_the_same_at_once_both_get_theirs(tmp_path, monkeypatch):
    cache, quick, slow = Cache(folder=tmp_path), Maker("quick"), Maker("slow")
    rename = Path.rename

    def renamed(path, target):  # just before the move the other run puts its own there
        if (path / "made.json").exists() and not quick.count:
            quick.get(cache)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Cache, "_lock", lambda _self, _name: nullcontext())  # as between two machines
    assert slow.get(cache) == "slow"
    monkeypatch.undo()
    assert quick.count == 1
    assert Maker("new").get(cache) == "quick"
    assert len(entries(tmp_path)) == 1


def test_what_breaks_while_it_is_written_leaves_nothing(tmp_path):
    cache = Cache(folder=tmp_path)

    def write(_made: str, folder: Path) -> dict[str, object]:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("thing", {}, "code", make=Maker().make, write=write, read=Maker().read)
    assert not entries(tmp_path)


def test_a_folder_that_cannot_be_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*: "):
        Maker().get(Cache(folder=tmp_path / "file"))
