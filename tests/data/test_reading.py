import hashlib
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.data import pictures
from detrojan.data.decoding_apart import decoded
from detrojan.data.drawn.signs import signs
from detrojan.data.formats.npz_file import read_npz
from detrojan.data.reading import read_data
from detrojan.errors import DataError, DetrojanError, OptionError, RangeError, UnsafeFileError

IMAGES = np.random.default_rng(2).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=IMAGES, y=LABELS)
    return path


def test_the_kind_is_told_by_the_content_not_by_the_name(path):
    renamed = path.rename(path.with_name("data.h5"))
    assert read_data(renamed).labels.tolist() == LABELS.tolist()
    assert read_data(str(renamed)).sha256 == hashlib.sha256(renamed.read_bytes()).hexdigest()


def test_a_limit_draws_by_seed_without_repeats(path):
    draws = [read_data(path, limit=9, generator=torch.Generator().manual_seed(s)).images for s in (1, 1, 2)]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])
    assert len({image.numpy().tobytes() for image in draws[0]}) == 9
    assert read_data(path, limit=9).images.equal(read_data(path, limit=9).images)
    assert "9 of 40 images, drawn at random" in read_data(path, limit=9).notes
    assert read_data(path, limit=400).labels.tolist() == LABELS.tolist()
    with pytest.raises(OptionError, match="expected a limit of at least 1 image, got 0"):
        read_data(path, limit=0)


def test_images_and_labels_of_a_limit_belong_together(path):
    part, whole = read_data(path, limit=15), read_data(path)
    places = [int((whole.images == image).flatten(1).all(1).nonzero()) for image in part.images]
    assert part.labels.tolist() == whole.labels[places].tolist()


def test_resizing_is_noted_and_keeps_the_range(path):
    data = read_data(path, resize=(8, 12))
    assert data.shape == (3, 8, 12)
    assert data.notes[-1] == "resized from 16x16 to 8x12, bilinear"
    assert float(data.images.mean()) == pytest.approx(IMAGES.mean() / 255, abs=0.01)
    with pytest.raises(OptionError, match="expected a size of 1 to 4096 pixels, got 0x8"):
        read_data(path, resize=(0, 8))


def test_one_pixel_out_of_range_is_found_although_resizing_would_hide_it(tmp_path):
    images = np.full((1, 16, 16, 3), 0.5)
    images[0, 3, 3, 1] = 1.2
    np.savez(tmp_path / "d.npz", x=images)
    with pytest.raises(RangeError, match=r"got max 1\.2"):
        read_data(tmp_path / "d.npz", resize=(4, 4))


def test_the_crop_follows_the_region_in_the_original_frame(tmp_path):
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    image[0, 8:24, 4:28] = 200
    roi = np.array([[64, 128, 8, 32, 56, 96]], dtype=np.int16)
    np.savez(tmp_path / "d.npz", x=image, roi=roi)
    data = read_data(tmp_path / "d.npz", crop=True)
    assert data.shape == (3, 32, 32)
    # bilinear upsampling looks one pixel beyond the edge of the region, and no further
    assert (data.images[0, :, 2:-2, 2:-2] * 255).round().unique().tolist() == [200]
    assert data.images.min() > 0.5
    assert data.extra["roi"].tolist() == roi.tolist()
    assert "cropped to the region of interest, bilinear" in data.notes
    assert read_data(tmp_path / "d.npz", crop=True, resize=(9, 7)).shape == (3, 9, 7)


def test_cropping_needs_regions(path):
    with pytest.raises(DataError, match=r"data\.npz: expected an array roi to crop by, got none"):
        read_data(path, crop=True)
    with pytest.raises(DataError, match="signs: expected an array roi to crop by, got none"):
        read_data("signs", crop=True)


def test_unlabelled_leaves_labels_and_names_out(path):
    data = read_data(path, unlabelled=True)
    assert data.labels is None
    assert data.class_names == ()


def test_the_embedded_signs_are_read_by_their_word():
    test = read_data("signs")
    assert test.images.equal(signs("test").images)
    assert read_data("signs:val").sha256 == signs("val").sha256 == read_data("signs", split="val").sha256
    part = read_data("signs:test", limit=6, resize=(16, 16), unlabelled=True)
    assert (part.images.shape, part.labels) == ((6, 3, 16, 16), None)
    with pytest.raises(OptionError, match="expected one split, got signs:val and train"):
        read_data("signs:val", split="train")
    with pytest.raises(DataError, match="expected a split train, test or val, got 'all'"):
        read_data("signs:all")


def test_what_is_missing_empty_or_unknown_is_said(tmp_path):
    with pytest.raises(DataError, match=r"there is no file or folder .*nothing\.npz; expected an \.npz file"):
        read_data(tmp_path / "nothing.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(DataError, match="got an empty file"):
        read_data(tmp_path / "empty.npz")
    (tmp_path / "text.npz").write_text("hello there")
    expected = r"expected an \.npz file, an \.npy file, a \.pt file .*, an HDF5 file.*got something else"
    with pytest.raises(DataError, match=expected):
        read_data(tmp_path / "text.npz")


def test_a_pickle_is_refused_and_does_not_run(tmp_path):
    class Boom:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "batch_1").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(UnsafeFileError, match="without running it; got the name"):
        read_data(tmp_path / "batch_1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["npz", "h5", "png", "jpg"])
def test_random_damage_never_ends_in_a_foreign_error(tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    if kind == "npz":
        np.savez_compressed(path, x=IMAGES[:4], y=LABELS[:4])
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = IMAGES[:4], LABELS[:4]
    else:
        Image.fromarray(IMAGES[0]).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(60):
        broken = np.frombuffer(whole, np.uint8).copy()
        where = random.integers(0, min(len(broken), 1500), 6)
        broken[where] = random.integers(0, 256, 6)
        path.write_bytes(broken.tobytes())
        try:
            read_data(path)
        except DetrojanError as error:
            assert "data." in str(error)  # noqa: PT017 - both outcomes are right, a third is not


REAL = [
    ("mnist.npz", {}, 10000, (1, 28, 28), 10),
    ("mnist.npz", {"split": "train"}, 60000, (1, 28, 28), 10),
    ("cifar10_jpeg.npz", {}, 10000, (3, 32, 32), 10),
    ("cifar10_jpeg.npz", {"split": "train"}, 50000, (3, 32, 32), 10),
    ("cifar10_lossless_train4000.npz", {}, 4000, (3, 32, 32), 10),
    ("gtsrb_32.npz", {"crop": True}, 12630, (3, 32, 32), 43),
    ("gtsrb_32.npz", {"split": "train"}, 1307, (3, 32, 32), 43),
    ("gtsrb_32_train_full_jpeg.npz", {"crop": True}, 39209, (3, 32, 32), 43),
    ("lfw_55x47_jpeg.npz", {}, 13233, (3, 55, 47), 5749),
    ("csaw_faces/csaw_faces_and_triggers.npz", {"unlabelled": True}, 33, (3, 55, 47), 0),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "options", "count", "shape", "classes"), REAL)
def test_real_files_are_read(shared_data, name, options, count, shape, classes):
    path = shared_data / name
    source = read_npz(path, options.get("split"))
    assert source.count == count
    data = read_data(path, limit=25, **options)
    assert data.images.shape == (25, *shape)
    assert 0.1 < data.images.mean() < 0.9
    assert data.images.std() > 0.1
    if classes:
        assert len(set(source.labels.tolist())) == classes
        assert data.labels.max() < classes
        assert len(data.class_names) in (0, classes)


@pytest.mark.realdata
def test_faces_are_drawn_without_decoding_the_rest(shared_data, monkeypatch):
    names = []

    def watched(encoded, at_least):
        return decoded(((place, names.append(one.name) or one) for place, one in encoded), at_least)

    monkeypatch.setattr(pictures, "decoded", watched)
    data = read_data(shared_data / "lfw_55x47_jpeg.npz", limit=500)
    assert len(data) == len(set(names)) == len(names) == 500


@pytest.mark.realdata
def test_tracks_travel_with_the_frames(shared_data):
    data = read_data(shared_data / "gtsrb_32_train_full_jpeg.npz", limit=30)
    assert set(data.extra) == {"roi", "track", "frame"}
    assert data.extra["roi"].shape == (30, 6)


@pytest.mark.realdata
def test_strangers_labels_and_sound_are_told_from_data(shared_data):
    with pytest.raises(DataError, match=r"expected labels from 0, got -1 \(23 of 33 are negative\)"):
        read_data(shared_data / "csaw_faces" / "csaw_faces_and_triggers.npz")
    digits = read_data(shared_data / "fsdd_8k.npz", limit=5)
    assert digits.shape == (1, 64, 64)
    assert digits.extra.keys() == {"index", "speaker"}
    with pytest.raises(DataError, match=r"expected images under one of .*, got activation_1"):
        read_data(shared_data / "models" / "csaw2020" / "sunglasses_bd_weights.h5")


def test_what_is_drawn_is_known_by_its_position_in_the_source(path):
    whole = read_data(path)
    assert (whole.positions, whole.total, whole.files) == (None, 0, ())
    for source in (path, "signs"):
        whole, part = read_data(source), read_data(source, limit=4)
        assert part.total == len(whole)
        assert part.images.equal(whole.images[part.positions])
        assert sorted(set(part.positions.tolist())) == sorted(part.positions.tolist())
        assert read_data(source, limit=len(whole)).positions is None


def test_samples_out_of_files_of_their_own_keep_their_names(tmp_path):
    for label, name in enumerate(("stop", "yield")):
        (tmp_path / name).mkdir()
        for number in range(3):
            shade = 100 * label + 10 * number
            Image.new("L", (8, 8), shade).save(tmp_path / name / f"{shade}.png")
    data = read_data(tmp_path)
    assert data.files[0] == str(tmp_path / "stop" / "0.png")
    part = read_data(tmp_path, limit=4, generator=torch.Generator().manual_seed(3))
    assert [round(float(image.max()) * 255) for image in part.images] == [
        int(Path(f).stem) for f in part.files
    ]
    assert part.files == tuple(data.files[place] for place in part.positions.tolist())
    assert read_data([tmp_path / "stop" / "10.png"]).files == (str(tmp_path / "stop" / "10.png"),)
