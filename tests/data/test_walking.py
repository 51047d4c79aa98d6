"""What lies in a folder from outside, and what of it is left alone."""

import os
import socket

import numpy as np
import pytest
from PIL import Image

from detrojan.data.reading import read_data
from detrojan.data.walking import open_plain, walk
from detrojan.errors import DataError, UnsafeFileError


def picture(path, level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)
    return path


def test_links_that_lead_out_are_not_followed_and_that_is_said(tmp_path):
    secret = picture(tmp_path / "home" / "secret.png", 200)
    folder = tmp_path / "data"
    picture(folder / "a" / "1.png")
    (folder / "a" / "2.png").symlink_to(secret)
    (folder / "b").symlink_to(secret.parent)
    (folder / "a" / "3.png").symlink_to(folder / "nowhere.png")
    data = read_data(folder)
    assert data.files == (str(folder / "a" / "1.png"),)
    assert data.class_names == ("a",)
    assert any("3 links that lead out of the folder were not followed" in text for text in data.warnings)
    assert f"{folder / 'a' / '2.png'}: a link that leads out of the folder" in data.skipped
    (folder / "a" / "1.png").unlink()
    with pytest.raises(DataError, match=r"expected pictures \(.*\), got 3 links that lead out of the folder"):
        read_data(folder)


def test_links_within_the_folder_are_followed_and_never_in_a_circle(tmp_path):
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    found = walk(tmp_path)
    assert found.outward == []
    assert {path.relative_to(tmp_path).as_posix() for path in found.files} >= {"a/1.png", "b/1.png"}
    assert len(found.files) < 10


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_plain_file_is_refused_by_name_and_nothing_waits_for_it(tmp_path, kind, monkeypatch):
    picture(tmp_path / "a" / "1.png")
    monkeypatch.chdir(tmp_path)
    if kind == "fifo":
        os.mkfifo("a/2.png")
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("a/2.png")
        listening.close()
    wanted = "a FIFO" if kind == "fifo" else "a socket"
    for asked in (tmp_path, tmp_path / "a" / "2.png", [tmp_path / "a" / "2.png"]):
        with pytest.raises(UnsafeFileError, match=rf"2\.png: expected a plain file, got {wanted}"):
            read_data(asked)


def test_a_device_is_no_data():
    for asked in ("/dev/zero", ["/dev/zero"]):
        with pytest.raises(UnsafeFileError, match="/dev/zero: expected a plain file, got a device"):
            read_data(asked)


def test_a_link_is_checked_again_when_it_is_opened(tmp_path):
    outside = picture(tmp_path / "outside.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.png").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="got a link that leads out of it"):
        open_plain(tmp_path / "data" / "1.png", tmp_path / "data")
    with pytest.raises(DataError, match="No such file"):
        open_plain(tmp_path / "data" / "2.png", tmp_path / "data")


def test_names_that_no_file_can_have_are_an_error_of_ours():
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(DataError, match="there is no file or folder"):
            read_data(name)
        with pytest.raises(DataError, match="there is no file or folder"):
            read_data([name])
