"""Files and folders are replaced whole, or not at all."""

import os
import stat
from pathlib import Path

import pytest

from detrojan.errors import InputError
from detrojan.files import replacing, replacing_folder, save_bytes, save_text


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def _half_written(place, reason):
    with place as scratch:
        (scratch / "guard.json" if scratch.is_dir() else scratch).write_text("half")
        raise reason


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_at_the_end_only(tmp_path):
    target = tmp_path / "model.pt"
    target.write_text("old")
    with replacing(target) as scratch:
        scratch.write_text("new")
        assert scratch.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("reason", [OSError("full"), KeyboardInterrupt()])
def test_after_a_failure_the_older_file_is_whole_and_nothing_else_there(tmp_path, reason):
    target = tmp_path / "model.pt"
    target.write_text("old")
    with pytest.raises(type(reason)):
        _half_written(replacing(target), reason)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_usual_permissions_whoever_wrote_it(tmp_path):
    with replacing(tmp_path / "plain") as scratch:
        scratch.write_text("x")
    with replacing(tmp_path / "anew") as scratch:  # some libraries write to a private file of their own
        scratch.unlink()
        scratch.touch(0o600)
    with replacing_folder(tmp_path / "folder"):
        pass
    assert [_mode(tmp_path / name) for name in ("plain", "anew", "folder")] == [0o640, 0o640, 0o750]


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(OSError, match="expected a file, got a pipe or a device"),
        replacing(tmp_path / "pipe"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="expected a file, got a folder"), replacing(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "nowhere" / "file"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_name_as_long_as_may_be_can_be_written(tmp_path):
    name = "n" * 255
    with replacing(tmp_path / name) as scratch:
        scratch.write_text("x")
    assert (tmp_path / name).read_text() == "x"


def _older(folder):
    (folder / "own").mkdir(parents=True)
    for name in ("guard.json", "notes.txt", "own/file"):
        (folder / name).write_text(f"old {name}")
    return folder


def test_a_folder_is_replaced_at_the_end_only_and_keeps_what_it_is_told_to(tmp_path):
    target = _older(tmp_path / "guard")
    target.chmod(0o700)
    with replacing_folder(target, keep=lambda entry: entry.name != "model.pt") as scratch:
        (scratch / "guard.json").write_text("new")
        assert sorted(path.name for path in target.iterdir()) == ["guard.json", "notes.txt", "own"]
    assert (target / "guard.json").read_text() == "new"
    assert (target / "notes.txt").read_text() == "old notes.txt"
    assert (target / "own" / "file").read_text() == "old own/file"
    assert _mode(target) == 0o700
    assert list(tmp_path.iterdir()) == [target]


def test_an_older_folder_goes_where_nothing_is_kept(tmp_path):
    target = _older(tmp_path / "guard")
    with replacing_folder(target) as scratch:
        (scratch / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("reason", [OSError("full"), KeyboardInterrupt()])
def test_after_a_failure_the_older_folder_is_whole_and_nothing_else_there(tmp_path, reason):
    target = _older(tmp_path / "guard")
    with pytest.raises(type(reason)):
        _half_written(replacing_folder(target), reason)
    assert (target / "guard.json").read_text() == "old guard.json"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_whose_move_fails_is_back_in_its_place(tmp_path, monkeypatch):
    target = _older(tmp_path / "guard")
    rename = Path.rename

    def renamed(self, place):
        if (self / "new").exists():
            raise OSError("no")
        return rename(self, place)

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(OSError, match="no"), replacing_folder(target) as scratch:
        (scratch / "new").touch()
    assert (target / "own" / "file").read_text() == "old own/file"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(NotADirectoryError, match="expected a folder"), replacing_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "old"


def test_reports_make_their_folder_and_name_what_is_wrong(tmp_path):
    assert save_text(tmp_path / "a" / "b", "ä\udcff").read_bytes() == b"\xc3\xa4\\udcff"
    assert save_bytes(os.devnull, b"x") == Path(os.devnull)
    assert not Path(os.devnull).is_file()
    with pytest.raises(InputError, match="expected a file to write the report to, got the folder"):
        save_bytes(tmp_path, b"x")
    with pytest.raises(InputError, match=r"cannot write the report .*: (File exists|Not a directory)"):
        save_bytes(tmp_path / "a" / "b" / "c", b"x")
