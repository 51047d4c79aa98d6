"""The digest of data covers what was used, and nothing that lies beside it."""

import numpy as np
import pytest
from PIL import Image

from detrojan.data import digest
from detrojan.data.reading import read_data


@pytest.fixture
def folder(tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        (tmp_path / "d" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "d" / str(number % 2) / f"{number}.png")
    return tmp_path / "d"


def test_a_large_stray_file_is_not_read(folder, monkeypatch):
    before = read_data(folder).sha256
    with (folder / "0" / "stray.bin").open("wb") as file:
        file.truncate(2**40)
    fed = []
    feed = digest._feed
    monkeypatch.setattr(digest, "_feed", lambda sha, path: (fed.append(path.name), feed(sha, path)))
    assert read_data(folder).sha256 == before
    assert sorted(fed) == [f"{number}.png" for number in range(6)]


def test_of_large_data_only_what_is_drawn_is_hashed_and_that_is_said(folder, monkeypatch):
    monkeypatch.setattr(digest, "MOST_HASHED", 100)
    fed = []
    feed = digest._feed
    monkeypatch.setattr(digest, "_feed", lambda sha, path: (fed.append(str(path)), feed(sha, path)))
    part = read_data(folder, limit=2)
    assert sorted(fed) == sorted(part.files)
    assert any("the SHA-256 covers names, sizes and what was read of" in note for note in part.notes)
    assert read_data(folder, limit=2).sha256 == part.sha256
    other = next(path for path in folder.rglob("*.png") if str(path) not in part.files)
    other.rename(other.with_name("9.png"))
    assert read_data(folder, limit=2).sha256 != part.sha256


def test_of_a_large_file_its_ends_and_what_was_read_are_hashed(tmp_path, monkeypatch):
    images = np.random.default_rng(3).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / "d.npz"
    np.savez(path, x=images)
    whole = read_data(path).sha256
    monkeypatch.setattr(digest, "MOST_HASHED", 100)
    monkeypatch.setattr(digest, "_PIECE", 60)
    assert read_data(path).sha256 not in {whole, read_data(path, limit=3).sha256}
    assert read_data(path).sha256 == read_data(path).sha256
