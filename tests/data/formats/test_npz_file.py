import io
import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image

from detrojan.data import source
from detrojan.data.reading import read_data
from detrojan.errors import DataError, LabelError, UnsafeFileError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Boom:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def saved(folder, **arrays):
    path = folder / "data.npz"
    np.savez_compressed(path, **arrays)
    return path


def jpegs(images):
    pieces = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=95)
        pieces.append(stream.getvalue())
    offsets = np.cumsum([0, *(len(piece) for piece in pieces)])
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets


def member(path, name, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, data)
    return path


@pytest.mark.parametrize("images_key", ["images", "x", "data", "X", "imgs", "arr_0"])
@pytest.mark.parametrize("labels_key", ["labels", "label", "y", "targets", "arr_1"])
def test_common_names_are_found(tmp_path, images_key, labels_key):
    data = read_data(saved(tmp_path, **{images_key: COLOUR, labels_key: LABELS}))
    assert np.array_equal((data.images.numpy() * 255).round(), COLOUR.transpose(0, 3, 1, 2))
    assert data.labels.tolist() == LABELS.tolist()


def test_layouts_give_the_same_images(tmp_path):
    last = read_data(saved(tmp_path, x=COLOUR)).images
    first = read_data(saved(tmp_path, x=COLOUR.transpose(0, 3, 1, 2))).images
    grey = read_data(saved(tmp_path, x=COLOUR[..., 0])).images
    assert last.equal(first)
    assert last.is_contiguous()
    assert grey.equal(last[:, :1])


def test_fortran_order_is_read_right(tmp_path):
    assert read_data(saved(tmp_path, x=np.asfortranarray(COLOUR))).images.equal(
        read_data(saved(tmp_path, x=COLOUR)).images
    )


def test_splits_are_told_apart_with_their_labels_and_extra_arrays(tmp_path):
    path = saved(
        tmp_path,
        x_train=COLOUR,
        y_train=LABELS,
        track_train=np.arange(6, dtype=np.uint16),
        x_test=COLOUR[:2],
        y_test=LABELS[:2] + 1,
        class_names=np.array(["a", "b", "c"]),
    )
    train = read_data(path, split="train")
    assert (len(train), train.labels.tolist()) == (6, LABELS.tolist())
    assert train.extra["track"].tolist() == list(range(6))
    test = read_data(path)
    assert (len(test), test.labels.tolist()) == (2, [1, 2])
    assert test.extra == {}
    assert test.class_names == ("a", "b", "c")
    assert test.notes[0] == "split test was taken; the file also has train"
    with pytest.raises(DataError, match="expected a split val, got only test, train"):
        read_data(path, split="val")


def test_text_and_pictures_do_not_travel_along_as_extra(tmp_path):
    masks = np.zeros((6, 9, 9), dtype=np.uint8)
    data = read_data(
        saved(tmp_path, x=COLOUR, speaker=np.array(list("abcdef")), masks=masks, roi=masks[:, 0])
    )
    assert set(data.extra) == {"roi"}


def test_jpeg_bytes_are_decoded_and_only_those_that_are_drawn(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 6, dtype=np.uint8)[:, None, None, None], (6, 8, 9, 3))
    blob, offsets = jpegs(smooth)
    broken = blob.copy()
    broken[offsets[4] :] = 0
    data = read_data(
        saved(tmp_path, jpeg=blob, offsets=offsets, label=LABELS, names=np.array(["a", "b", "c"]))
    )
    assert data.images[:, 0, 4, 4].numpy() * 255 == pytest.approx(smooth[:, 0, 0, 0], abs=3)
    assert data.class_names == ("a", "b", "c")
    path = saved(tmp_path, jpeg_train=broken, offsets_train=offsets, y_train=np.arange(6))
    with pytest.raises(DataError, match="jpeg_train: image 4: expected a picture"):
        read_data(path, strict=True)
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(6, generator=torch.Generator().manual_seed(seed))[:2]
        if chosen.max() < 4:
            assert read_data(path, limit=2, generator=random).labels.tolist() == chosen.tolist()
            break


def test_a_truncated_jpeg_is_named(tmp_path):
    blob, offsets = jpegs(np.repeat(np.repeat(COLOUR, 8, axis=1), 8, axis=2))
    offsets[3] -= (offsets[3] - offsets[2]) // 2
    with pytest.raises(DataError, match="image 2: the picture is truncated or damaged"):
        read_data(saved(tmp_path, jpeg=blob, offsets=offsets), strict=True)


@pytest.mark.parametrize("change", [(2, 0), (6, 10**9), (0, -5)])
def test_offsets_that_lead_out_of_the_bytes_are_refused(tmp_path, change):
    blob, offsets = jpegs(COLOUR)
    offsets[change[0]] = change[1]
    with pytest.raises(DataError, match=r"expected image \d within \d+ bytes, got offsets"):
        read_data(saved(tmp_path, jpeg=blob, offsets=offsets))


def test_jpeg_bytes_need_offsets_and_bytes(tmp_path):
    blob, offsets = jpegs(COLOUR)
    with pytest.raises(DataError, match="expected offsets beside jpeg, got only jpeg"):
        read_data(saved(tmp_path, jpeg=blob))
    with pytest.raises(DataError, match="expected bytes in one row, got int64"):
        read_data(saved(tmp_path, jpeg=blob.astype(int), offsets=offsets))
    with pytest.raises(DataError, match="expected N \\+ 1 whole offsets, got float64"):
        read_data(saved(tmp_path, jpeg=blob, offsets=offsets.astype(float)))


@pytest.mark.parametrize("key", ["x", "y", "class_names", "anything"])
def test_pickled_arrays_are_refused_and_do_not_run(tmp_path, key):
    trace = tmp_path / "ran"
    bad = np.array([Boom(trace)] * 6, dtype=object)
    arrays = {"x": COLOUR, "y": LABELS, key: bad} if key != "anything" else {key: bad}
    with pytest.raises(
        UnsafeFileError, match=f"array {key} holds Python objects; a pickle inside would run code"
    ):
        read_data(saved(tmp_path, **arrays))
    assert not trace.exists()


def test_a_pickled_array_that_nobody_needs_is_left_alone(tmp_path):
    trace = tmp_path / "ran"
    data = read_data(saved(tmp_path, x=COLOUR, meta=np.array([Boom(trace)] * 6, dtype=object)))
    assert len(data) == 6
    assert not trace.exists()


def test_a_pickled_model_in_a_zip_is_refused(tmp_path):
    path = member(tmp_path / "model.pt", "model/other.pkl", b"\x80\x02.")
    with pytest.raises(UnsafeFileError, match="holds a pickle, which would run code from the file"):
        read_data(path)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path):
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 32, 32, 3)})
    path = member(tmp_path / "bomb.npz", "x.npy", stream.getvalue())
    with pytest.raises(DataError, match="x: expected at most 8 GiB, got an array that claims 2861 GiB"):
        read_data(path)


def test_a_member_that_ends_early_is_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, COLOUR)
    path = member(tmp_path / "short.npz", "x.npy", stream.getvalue()[:-100])
    with pytest.raises(DataError, match="array x: the file is truncated or damaged"):
        read_data(path)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_truncated_zip_is_refused(tmp_path, share):
    path = saved(tmp_path, x=COLOUR, y=LABELS)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="the file is truncated or damaged"):
        read_data(path)


def test_damage_inside_is_noticed(tmp_path):
    path = saved(tmp_path, x=COLOUR)
    content = bytearray(path.read_bytes())
    for place in range(500, 540):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="the file is truncated or damaged"):
        read_data(path)


def test_headers_that_are_no_headers_are_refused(tmp_path):
    header = b"\x93NUMPY\x01\x00\x46\x00{'descr': __import__('os'), 'shape': (1,)}".ljust(80) + b"\n"
    with pytest.raises(DataError, match="the file is truncated or damaged"):
        read_data(member(tmp_path / "bad.npz", "x.npy", header))


def test_what_is_there_instead_of_images_is_listed(tmp_path):
    path = saved(tmp_path, audio=np.zeros(5), rate=np.int32(8000))
    with pytest.raises(
        DataError, match=r"expected images under one of images.*got arrays audio \(5,\), rate \(\)"
    ):
        read_data(path)
    with pytest.raises(DataError, match=r"expected images \(N, H, W\).*got shape \(5, 784\)"):
        read_data(saved(tmp_path, x=np.zeros((5, 784))))


def test_missing_labels_are_a_note_and_too_few_are_an_error(tmp_path):
    data = read_data(saved(tmp_path, x=COLOUR))
    assert data.labels is None
    assert "no labels" in data.notes
    path = saved(tmp_path, x=COLOUR, y=LABELS[:5])
    with pytest.raises(LabelError, match=r"data.npz: expected 6 labels, one per image, got shape \(5,\)"):
        read_data(path)
    assert read_data(path, unlabelled=True).labels is None


def test_empty_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least one image, got none"):
        read_data(saved(tmp_path, x=COLOUR[:0], y=LABELS[:0]))
    blob, _ = jpegs(COLOUR)
    with pytest.raises(DataError, match="expected at least one image, got none"):
        read_data(saved(tmp_path, jpeg=blob, offsets=np.array([0])))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_few_images_of_many_are_read_alone_in_the_order_asked(save, kind, tmp_path, monkeypatch):
    images = np.random.default_rng(1).integers(0, 256, (40, 5, 4, 3)).astype(kind)
    save(tmp_path / "d.npz", images=images if kind == np.uint8 else images / kind(255), labels=np.arange(40))
    monkeypatch.setattr(source, "MOST_BYTES", images.nbytes - 1)  # the array as a whole is too large
    data = read_data(tmp_path / "d.npz", limit=10, generator=torch.Generator().manual_seed(3))
    wanted = torch.from_numpy(images[data.labels.numpy()]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(data.images, wanted.float())
    with pytest.raises(DataError, match=r"array images: expected at most 8 GiB, got .*; --samples N reads"):
        read_data(tmp_path / "d.npz")


def test_a_few_images_of_an_array_in_fortran_order(tmp_path):
    images = np.asfortranarray(np.random.default_rng(1).integers(0, 256, (40, 5, 4, 3)).astype(np.uint8))
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(40))
    data = read_data(tmp_path / "d.npz", limit=10, generator=torch.Generator().manual_seed(3))
    wanted = torch.from_numpy(images[data.labels.numpy()].copy()).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(data.images, wanted)


def test_rows_of_a_file_that_ends_early_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.zeros((40, 5, 4, 3), np.uint8))  # 40 rows of 60 bytes
    with zipfile.ZipFile(tmp_path / "d.npz") as file:
        content = file.read("images.npy")
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as file:
        file.writestr("images.npy", content[:1000])
    with pytest.raises(DataError, match="array images: the file is truncated or damaged"):
        read_data(tmp_path / "cut.npz", limit=10, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("train.zip", "test.zip"), "got train.zip, test.zip; unpack what is packed in it"),
        (("a.txt", "b.txt", "c.txt", "d.txt", "e.txt"), "got a.txt, b.txt, c.txt, d.txt, ..."),
        ((), "got nothing"),
    ],
)
def test_a_zip_of_something_else_is_told_by_what_it_holds(tmp_path, names, says):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        for name in names:
            packed.writestr(name, b"")
    with pytest.raises(DataError) as failed:
        read_data(tmp_path / "data.zip")
    assert str(failed.value).endswith(f"expected arrays or pictures in a zip, {says}")
