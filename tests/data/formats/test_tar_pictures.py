"""Pictures in tar files and WebDataset's shards, read without unpacking them."""

import io
import tarfile

import pytest
import torch

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError, LabelError
from picture_files import levels, png


def packed(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            data = png(content) if isinstance(content, int) else content
            item = tarfile.TarInfo(name)
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))
    return path


def test_shards_with_labels_beside_the_pictures(tmp_path):
    packed(tmp_path / "train-000.tar", {"a.png": 10, "a.cls": b"3", "b.png": 20, "b.cls": b"0\n"})
    packed(tmp_path / "train-001.tar", {"a.png": 30, "a.json": b'{"label": 1}', "a.txt": b"a caption"})
    packed(tmp_path / "val-000.tar", {"a.png": 40, "a.cls": b"2"})
    assert sorted(splits_of(tmp_path)) == ["train", "val"]
    data = read_data(tmp_path, split="train")
    assert (levels(data), data.labels.tolist(), data.named) == ([10, 20, 30], [3, 0, 1], False)
    text = packed(tmp_path / "x.tar", {"a.png": 10, "a.cls": b"dog", "b.png": 20, "b.cls": b"cat"})
    data = read_data(text)
    assert (data.labels.tolist(), data.class_names, data.named) == ([1, 0], ("cat", "dog"), True)


def test_the_layout_of_a_folder(tmp_path):
    path = packed(
        tmp_path / "d.tar", {"./d/dog/1.png": 30, "./d/cat/1.png": 10, "./d/cat/._1.png": b"litter"}
    )
    data = read_data(path)
    assert (levels(data), data.class_names) == ([10, 30], ("cat", "dog"))


def test_links_in_a_tar_lead_nowhere(tmp_path):
    path = tmp_path / "d.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            item = tarfile.TarInfo("a/1.png")
            item.type, item.linkname = kind, "/etc/hosts"
            archive.addfile(item)
    with pytest.raises(DataError, match=r"d\.tar: expected pictures, got none"):
        read_data(path)


def test_missing_labels_and_damage(tmp_path):
    path = packed(tmp_path / "d.tar", {"a.png": 10, "a.cls": b"3", "b.png": 20})
    with pytest.raises(LabelError, match="expected a label for each picture, got 1 of 2 without"):
        read_data(path)
    assert levels(read_data(path, unlabelled=True)) == [10, 20]
    path = packed(path, {"a.png": 10, "b.png": b"no picture"})
    assert levels(read_data(path)) == [10]
    content = bytearray(path.read_bytes())
    content[600:] = content[600:700]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.tar"):
        read_data(path)


@pytest.mark.parametrize(
    ("ending", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")]
)
def test_a_packed_tar_is_unpacked_in_passing(tmp_path, ending, mode):
    members = {f"d/{name}/{at}.png": at * 20 for name in ("dog", "cat") for at in range(1, 5)}
    path = packed(tmp_path / f"d.{ending}", members, mode)
    data = read_data(path)
    assert (levels(data), data.class_names) == ([20, 40, 60, 80] * 2, ("cat", "dog"))
    assert data.labels.tolist() == [0] * 4 + [1] * 4
    some = read_data(path, limit=3, generator=torch.Generator().manual_seed(1))
    assert levels(some) == levels(
        read_data(packed(tmp_path / "d.tar", members), limit=3, generator=torch.Generator().manual_seed(1))
    )


def test_packed_shards_with_labels_beside(tmp_path):
    packed(tmp_path / "train-000.tar.gz", {"a.png": 10, "a.cls": b"3", "b.png": 20, "b.cls": b"0"}, "w:gz")
    packed(tmp_path / "train-001.tar.gz", {"a.png": 30, "a.json": b'{"label": 1}'}, "w:gz")
    data = read_data(tmp_path, split="train")
    assert (levels(data), data.labels.tolist()) == ([10, 20, 30], [3, 0, 1])


def test_a_packed_tar_that_is_damaged_or_holds_something_else(tmp_path):
    path = packed(tmp_path / "d.tar.gz", {"batch_1": b"x" * 5000}, "w:gz")
    with pytest.raises(
        DataError, match=r"expected pictures, got none; unpack it, if it holds data of another"
    ):
        read_data(path)
    path = packed(path, {f"{at}.png": at for at in range(200)}, "w:gz")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"d\.tar\.gz: the tar file is truncated or damaged"):
        read_data(path)
