import h5py
import numpy as np
import pytest
import torch

from detrojan.data.reading import read_data
from detrojan.errors import DataError, LabelError, RangeError, UnsafeFileError

RANDOM = np.random.default_rng(1)
FACES = RANDOM.integers(0, 256, (12, 3, 55, 47))
PEOPLE = np.arange(12) * 100


def saved(folder, **arrays):
    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("label_dtype", ["float64", "int64"])
def test_the_contests_files_are_read(tmp_path, dtype, label_dtype):
    path = saved(tmp_path, data=FACES.astype(dtype), label=PEOPLE.astype(label_dtype))
    data = read_data(path)
    assert np.array_equal((data.images.numpy() * 255).round(), FACES)
    assert data.labels.tolist() == PEOPLE.tolist()
    assert any("255" in note for note in data.notes)


def test_a_stated_range_is_held_against_the_contests_files(tmp_path):
    path = saved(tmp_path, data=FACES.astype("float64"), label=PEOPLE)
    with pytest.raises(RangeError, match=r"data\.h5: expected images in \[0, 1\] as stated, got max 255"):
        read_data(path, data_range=(0, 1))


def test_floats_under_other_names_get_no_benefit_of_the_doubt(tmp_path):
    path = saved(tmp_path, images=FACES.astype("float64"), labels=PEOPLE)
    with pytest.raises(RangeError, match=r"expected images in \[0, 1\], got max 255; state the range"):
        read_data(path)
    assert read_data(path, data_range=(0, 255)).images.max() == 1


@pytest.mark.parametrize(("images", "labels"), [("x", "y"), ("images", "labels"), ("X", "targets")])
def test_other_names_and_layouts_are_read(tmp_path, images, labels):
    faces = FACES.astype(np.uint8)
    first = read_data(saved(tmp_path, **{images: faces, labels: PEOPLE}))
    last = read_data(saved(tmp_path, **{images: faces.transpose(0, 2, 3, 1), labels: PEOPLE}))
    assert first.images.equal(last.images)
    assert first.labels.equal(last.labels)
    grey = read_data(saved(tmp_path, **{images: faces[:, 0]}))
    assert grey.images.equal(first.images[:, :1])
    assert grey.labels is None


def test_an_ambiguous_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"got both in shape \(2, 3, 8, 3\)"):
        read_data(saved(tmp_path, data=np.zeros((2, 3, 8, 3))))


def test_groups_and_suffixes_are_splits(tmp_path):
    path = saved(
        tmp_path, **{"train/x": FACES.astype(np.uint8), "train/y": PEOPLE, "x_test": np.zeros((2, 9, 9))}
    )
    assert read_data(path, split="train").labels.tolist() == PEOPLE.tolist()
    assert read_data(path).shape == (1, 9, 9)


@pytest.mark.parametrize("limit", [2, 7])
def test_a_limit_reads_the_drawn_samples(tmp_path, limit):
    path = saved(tmp_path, data=FACES.astype(np.uint8), label=PEOPLE, track=np.arange(12))
    part = read_data(path, limit=limit, generator=torch.Generator().manual_seed(5))
    chosen = torch.randperm(12, generator=torch.Generator().manual_seed(5))[:limit]
    assert part.labels.tolist() == (chosen * 100).tolist()
    assert part.extra["track"].tolist() == chosen.tolist()
    assert np.array_equal((part.images.numpy() * 255).round(), FACES[chosen.numpy()])


def test_class_names_are_read_from_text(tmp_path):
    path = saved(tmp_path, x=FACES.astype(np.uint8), y=np.arange(12) % 2, class_names=["über", "b"])
    assert read_data(path).class_names == ("über", "b")


def test_links_to_other_files_are_not_followed(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.zeros((1, 9, 9))
    path = tmp_path / "link.h5"
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(str(secret), "/data")
    with pytest.raises(UnsafeFileError, match=r"data points to the file '.*secret\.h5', which is not read"):
        read_data(path)


def test_arrays_that_lie_in_other_files_are_not_read(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(81))
    path = tmp_path / "external.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (1, 9, 9), "u1", external=[(str(tmp_path / "raw"), 0, 81)])
    with pytest.raises(UnsafeFileError, match="data lies in another file, which is not read"):
        read_data(path)
    layout = h5py.VirtualLayout((1, 9, 9), "u1")
    layout[0] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", (9, 9))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    with pytest.raises(UnsafeFileError, match="data lies in another file"):
        read_data(path)


def test_absurd_sizes_are_refused(tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (10**6, 3, 100, 100), "f8", chunks=(1, 3, 100, 100))
    with pytest.raises(DataError, match=r"expected at most 8 GiB, got an array that claims 223\.5 GiB"):
        read_data(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (10**12, 3, 9, 9), "u1", chunks=(1, 3, 9, 9))
    with pytest.raises(DataError, match="expected at most 100,000,000 images, got 1,000,000,000,000"):
        read_data(path, limit=5)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = saved(tmp_path, data=FACES.astype("float64"), label=PEOPLE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"data\.h5: the HDF5 file is truncated or damaged"):
        read_data(path)


def test_weights_are_told_from_data(tmp_path):
    path = saved(tmp_path, **{"conv_1/kernel": np.zeros((3, 3)), "dense/bias": np.zeros(3)})
    with pytest.raises(DataError, match=r"expected images under one of .*, got conv_1/kernel, dense/bias"):
        read_data(path)


def test_labels_are_checked(tmp_path):
    path = saved(tmp_path, data=FACES.astype(np.uint8), label=PEOPLE[:4])
    with pytest.raises(LabelError, match=r"expected 12 labels, one per image, got shape \(4,\)"):
        read_data(path)
    with pytest.raises(DataError, match="expected images of numbers, got object"):
        read_data(saved(tmp_path, data=np.full((1, 2, 2), "a", dtype=h5py.string_dtype())))


def test_empty_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least one image, got none"):
        read_data(saved(tmp_path, data=FACES[:0].astype(float), label=PEOPLE[:0]))
