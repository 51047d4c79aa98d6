"""A data format is one file: what lies in the package is found, asked in its order, listed and named."""

import hashlib
import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from detrojan.cli.main import main
from detrojan.console.overwriting import _words
from detrojan.data.formats.base import Place, formats, kinds, words
from detrojan.data.reading import data_digest, read_data, splits_of
from detrojan.data.splits import training_splits
from detrojan.errors import DataError

TOY = '''
import json
import numpy as np
from detrojan.data.formats.base import Format
from detrojan.data.source import Source

class Toy(Format):
    """Grey levels as text."""

    kind = "a toy file"
    listed = ((".toy", "grey levels, one per image"),)
    precedence = 1
    words = ("toys",)

    def recognises(self, place):
        return place.word == "toys" or place.head.startswith(b"toy")

    def splits(self, place):
        return ("train", "test")

    def read(self, place, split, *, unlabelled):
        text = "9 7" if place.word == "toys" else place.path.read_text()[3:]
        levels = [int(level) for level in text.split()]

        def fetch(index):
            return np.asarray(levels, np.uint8)[index][:, None, None, None].repeat(4, 1).repeat(4, 2), []
        labels = None if unlabelled else np.asarray(levels) // 100
        return Source(where="toy", count=len(levels), fetch=fetch, labels=labels)
'''


@pytest.fixture
def toy(new_file):
    """A format that lies in one file of its own."""
    new_file("detrojan.data.formats", "toy_file", TOY)


@pytest.mark.usefixtures("toy")
def test_a_new_format_is_one_file(tmp_path):
    path = tmp_path / "levels"
    path.write_text("toy 255 51 0 102")
    data = read_data(path, split="train")
    assert data.images[:, 0, 0, 0].tolist() == pytest.approx([1, 0.2, 0, 0.4])
    assert data.labels.tolist() == [2, 0, 0, 1]
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_data(path, limit=2, unlabelled=True).labels is None
    assert splits_of(path) == ("train", "test")
    assert training_splits(path) == ("train", "test")
    listed = json.loads(CliRunner().invoke(main, ["list", "data", "--format", "json"]).stdout)
    assert {"name": ".toy", "summary": "grey levels, one per image"} in listed
    (tmp_path / "text").write_text("hello there")
    with pytest.raises(
        DataError, match=r"expected an \.npz file, .*a toy file or the word signs.*got something else"
    ):
        read_data(tmp_path / "text")


@pytest.mark.usefixtures("toy")
def test_a_new_word_is_one_file_too():
    assert len(read_data("toys")) == 2
    assert "toys" in words() & _words()
    assert data_digest("toys") == hashlib.sha256(b"toys").hexdigest()


def test_what_the_files_did_not_define_is_gone_with_them():
    assert "toy" not in kinds()


def test_formats_are_asked_in_a_fixed_order_that_ends_with_any_folder():
    names = [type(one).__name__ for one in formats()]
    assert names[0] == "DrawnSigns"
    assert names[-1] == "ImageFolder"
    assert names == [type(one).__name__ for one in formats()]
    assert kinds().startswith("an .npz file, an .npy file, a .pt file of tensors, an HDF5 file, ")
    assert kinds().endswith(" or the word signs (signs:train, signs:test)")


def test_a_place_is_looked_at_only_as_far_as_it_is_asked(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789abcdef")
    assert Place.of(tmp_path / "file").head == b"0123456789ab"
    assert Place.of(str(tmp_path)).is_folder
    assert Place.of(tmp_path).head == Place.of("none").head == b""
    assert (Place.of("signs:val").word, Place.of(tmp_path / "signs").word) == ("signs", "")


def _npz(folder):
    np.savez(folder / "a.npz", x_val=np.zeros((1, 4, 4)), train_images=np.zeros((1, 4, 4)))
    return folder / "a.npz"


def _hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["train/images"] = file["x_val"] = np.zeros((1, 4, 4))
    return folder / "a.h5"


def _cifar(folder):
    for name in ("data_batch_3", "test_batch"):
        (folder / f"{name}.bin").write_bytes(bytes(3073))
    return folder


def _idx(folder):
    (folder / "raw").mkdir()
    for name in ("train", "t10k"):
        (folder / "raw" / f"{name}-images-idx3-ubyte").write_bytes(b"\0\0\x08\3" + b"\0\0\0\1" * 3 + b"9")
    return folder


def _gtsrb(folder):
    for name in ("Train", "Test"):
        (folder / f"{name}.csv").write_text("Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n")
    return folder


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_npz, ["train", "val"]),
        (_hdf5, ["train", "val"]),
        (_cifar, ["test", "train"]),
        (_idx, ["test", "train"]),
        (_gtsrb, ["test", "train"]),
    ],
)
def test_each_format_says_which_splits_there_are(tmp_path, make, found):
    assert sorted(splits_of(make(tmp_path))) == found


@pytest.mark.parametrize("make", [_cifar, _idx])
def test_one_official_file_belongs_to_no_split(tmp_path, make):
    path = min(item for item in make(tmp_path).rglob("*") if item.is_file())
    assert splits_of(path) == ("",)
    with pytest.raises(DataError, match="expected a split test, got only images without a split"):
        read_data(path, split="test", unlabelled=True)
