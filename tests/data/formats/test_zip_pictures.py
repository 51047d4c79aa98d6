"""Pictures in a zip, read without unpacking it."""

import zipfile

import pytest

from detrojan.data.formats import zip_pictures
from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError
from picture_files import levels, png


def packed(path, **levels_by_name):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, level in levels_by_name.items():
            archive.writestr(name, png(level) if isinstance(level, int) else level)
    return path


def test_the_layout_is_that_of_a_folder(tmp_path):
    inside = {"set/dog/1.png": 30, "set/cat/1.png": 10, "set/cat/2.png": 20, "__MACOSX/set/._1.png": 9}
    data = read_data(packed(tmp_path / "d.zip", **inside, **{"set/notes.txt": b"hello"}))
    assert levels(data) == [10, 20, 30]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.class_names == ("cat", "dog")
    assert data.skipped == (f"{tmp_path / 'd.zip'}: set/notes.txt: not a picture",)
    assert levels(read_data(tmp_path / "d.zip", limit=1)) in ([10], [20], [30])
    assert [item.name for item in tmp_path.iterdir()] == ["d.zip"]


def test_splits_and_tables(tmp_path):
    path = packed(tmp_path / "d.zip", **{"train/a/1.png": 1, "train/b/1.png": 2, "test/a/1.png": 3})
    assert sorted(splits_of(path)) == ["test", "train"]
    assert levels(read_data(path, split="train")) == [1, 2]
    packed(path, **{"images/1.png": 1, "labels.csv": b"path,label"})
    with pytest.raises(DataError, match=r"got one folder 'images' beside labels\.csv"):
        read_data(path)


def test_a_broken_or_huge_member_is_skipped(tmp_path, monkeypatch):
    path = packed(tmp_path / "d.zip", **{"1.png": 10, "2.png": b"no picture", "3.png": bytes(5000)})
    monkeypatch.setattr(zip_pictures, "MOST_ENCODED", 4000)
    data = read_data(path)
    assert levels(data) == [10]
    assert [text.partition(": expected")[0] for text in data.skipped] == [f"{path}: 2.png", f"{path}: 3.png"]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"d\.zip: the file is truncated or damaged"):
        read_data(path)
