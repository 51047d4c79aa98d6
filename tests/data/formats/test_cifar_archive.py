"""CIFAR's archives and CIFAR-100, as they are downloaded."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest

from detrojan.data.formats.cifar_files import KINDS
from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError

RANDOM = np.random.default_rng(2)


def contents(kind):
    """Return the files of a data set with four samples each, and what they hold, by split."""
    files, held = {}, {}
    for split, names in kind.files.items():
        for name in names:
            pixels = RANDOM.integers(0, 256, (4, 3072), dtype=np.uint8)
            labels = RANDOM.integers(0, kind.classes, 4)
            if kind.binary:
                coarse = [labels[:, None] * 0] * (kind.labels - 1)
                files[name] = np.hstack([*coarse, labels[:, None], pixels]).astype(np.uint8).tobytes()
            else:
                key = b"labels" if kind.classes == 10 else b"fine_labels"
                files[name] = pickle.dumps({b"data": pixels, key: labels.tolist()}, protocol=2)
            held.setdefault(split, []).append((pixels, labels))
    names = [f"kind {number}" for number in range(kind.classes)]
    key = "label_names" if kind.classes == 10 else "fine_label_names"
    files[kind.names] = "\n".join(names).encode() if kind.binary else pickle.dumps({key: names}, protocol=2)
    joined = {
        split: [np.concatenate(part) for part in zip(*parts, strict=True)] for split, parts in held.items()
    }
    return files, joined


def check(path, kind, held):
    assert sorted(splits_of(path)) == ["test", "train"]
    for split, (pixels, labels) in held.items():
        data = read_data(path, split=split)
        assert np.allclose(data.images.numpy() * 255, pixels.reshape(-1, 3, 32, 32))
        assert data.labels.tolist() == labels.tolist()
        assert data.class_names[1] == "kind 1"
        assert f"{kind.name} batches" in data.notes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
@pytest.mark.parametrize("packed", ["w", "w:gz"])
def test_an_archive_is_read_as_it_is(tmp_path, kind, packed):
    files, held = contents(kind)
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, packed) as archive:
        folder = tarfile.TarInfo(kind.folder)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in reversed(files):
            item = tarfile.TarInfo(f"{kind.folder}/{name}")
            item.size = len(files[name])
            archive.addfile(item, io.BytesIO(files[name]))
    check(path, kind, held)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError):
        read_data(path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_its_folder_and_the_folder_around_that(tmp_path, kind):
    files, held = contents(kind)
    (tmp_path / kind.folder).mkdir()
    for name, content in files.items():
        (tmp_path / kind.folder / name).write_bytes(content)
    check(tmp_path, kind, held)
    check(tmp_path / kind.folder, kind, held)
