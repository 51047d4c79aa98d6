"""The official files of CIFAR-10, MNIST, GTSRB and of spoken digits, as their owners unpack them."""

import gzip
import os
import pickle
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrojan.data.formats.batch_pickle import read_batch
from detrojan.data.formats.spectrogram import BANDS, spectrogram
from detrojan.data.reading import data_digest, read_data
from detrojan.errors import DataError, DetrojanError, UnsafeFileError

RANDOM = np.random.default_rng(7)


def test_binary_batches_of_a_folder_and_of_a_file(tmp_path):
    pixels = RANDOM.integers(0, 256, (6, 4, 3, 32, 32), dtype=np.uint8)
    labels = RANDOM.integers(0, 10, (6, 4), dtype=np.uint8)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    for name, images, own in zip(names, pixels, labels, strict=True):
        np.concatenate([own[:, None], images.reshape(4, -1)], axis=1).tofile(tmp_path / name)
    (tmp_path / "batches.meta.txt").write_text("\n".join(f"kind {n}" for n in range(10)) + "\n\n")
    train = read_data(tmp_path, split="train")
    assert len(train) == 20
    assert train.labels.tolist() == labels[:5].reshape(-1).tolist()
    assert np.allclose(train.images.numpy() * 255, pixels[:5].reshape(20, 3, 32, 32))
    assert train.class_names[3] == "kind 3"
    assert read_data(tmp_path / "test_batch.bin").labels.tolist() == labels[5].tolist()
    before = data_digest(tmp_path)
    (tmp_path / "stray.zip").write_bytes(b"1")
    assert data_digest(tmp_path) == before
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(3073))
    assert data_digest(tmp_path) != before


def batch(protocol, **more):
    data = RANDOM.integers(0, 256, (5, 3072), dtype=np.uint8)
    labels = [3, 1, 4, 1, 5]
    held = {"batch_label": "training batch 1 of 5", "labels": labels, "data": data, **more}
    return data, pickle.dumps(held, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_batches_are_read_without_unpickling(tmp_path, protocol):
    data, content = batch(protocol, filenames=["a.png"] * 5)
    (tmp_path / "data_batch_1").write_bytes(content)
    found = read_data(tmp_path / "data_batch_1")
    assert found.labels.tolist() == [3, 1, 4, 1, 5]
    assert np.allclose(found.images.numpy() * 255, data.reshape(5, 3, 32, 32))
    folder = read_data(tmp_path)
    assert folder.images.equal(found.images)
    assert any("only 1 of the 5 batches" in note for note in folder.notes)


def test_a_pickle_of_python_2_is_read():
    # what Python 2 wrote: byte strings, and numpy's old names
    content = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tb\x89U\x06\x01\x02\x03\x04\x05\xfftbU\x06labels](K\x07K\x08eu."
    )
    found = read_batch(content, "x")
    assert found["data"].tolist() == [[1, 2, 3], [4, 5, 255]]
    assert found["labels"] == [7, 8]


class Bomb:
    def __init__(self, flag):
        self.flag = str(flag)

    def __reduce__(self):
        return os.mkdir, (self.flag,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, protocol):
    flag = tmp_path / "ran"
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch(protocol, extra=Bomb(flag))[1] if protocol else pickle.dumps(Bomb(flag), 2))
    with pytest.raises(UnsafeFileError, match=r"got the name 'posix\.mkdir'; save the images"):
        read_data(path)
    assert not flag.exists()


def test_every_truncation_of_a_pickle_is_an_error_of_ours():
    content = batch(2)[1]
    for length in [*range(200), len(content) // 2, len(content) - 1]:
        with pytest.raises(DetrojanError):
            read_batch(content[:length], "x")


def test_random_damage_never_escapes_as_another_error():
    content = batch(4)[1]
    for place in range(120):
        for value in (0, 40, 82, 98, 148, 255):
            broken = content[:place] + bytes([value]) + content[place + 1 :]
            try:
                read_batch(broken, "x")
            except DetrojanError:
                continue


def idx(values):
    return (
        b"\x00\x00\x08"
        + bytes([values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.tobytes()
    )


def test_idx_files_plain_and_gzipped(tmp_path):
    images = RANDOM.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.arange(6, dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:2])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:2])))
    train, test = read_data(tmp_path, split="train"), read_data(tmp_path)
    assert np.allclose(train.images[:, 0].numpy() * 255, images)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 1])
    assert len(read_data(tmp_path / "t10k-images-idx3-ubyte.gz")) == 2
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="expected its labels in t10k-labels-idx1-ubyte beside it"):
        read_data(tmp_path)
    assert read_data(tmp_path, unlabelled=True).labels is None


def test_idx_files_that_lie_about_their_size(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(np.zeros((2, 28, 28), np.uint8))[:-1])
    with pytest.raises(DataError, match=r"expected 1,568 bytes as its head says, got 1,567"):
        read_data(path, unlabelled=True)
    path.write_bytes(b"\x00\x00\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 28))
    with pytest.raises(DataError, match="expected at most 8 GiB"):
        read_data(path, unlabelled=True)
    path.write_bytes(gzip.compress(idx(np.zeros((2, 28, 28), np.uint8)))[:40])
    with pytest.raises(DetrojanError):
        read_data(path, unlabelled=True)


HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


def signs_folder(folder):
    """Draw signs whose frame is black and whose region of interest is white."""
    for label in (0, 1):
        place = folder / "Final_Training" / "Images" / f"{label:05d}"
        place.mkdir(parents=True)
        rows = []
        for frame in range(2):
            pixels = np.zeros((30 + 2 * label, 40, 3), np.uint8)
            pixels[5:25, 10:30] = 255
            Image.fromarray(pixels).save(place / f"00003_{frame:05d}.ppm")
            rows.append(f"00003_{frame:05d}.ppm;40;{30 + 2 * label};10;5;30;25;{label}\n")
        (place / f"GT-{label:05d}.csv").write_text(HEAD + "".join(rows))
    return folder


def test_the_folder_of_gtsrb_is_cut_to_the_signs(tmp_path):
    data = read_data(signs_folder(tmp_path), resize=(8, 8), crop=True)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.extra["track"].tolist() == [3, 3, 100_003, 100_003]
    assert float(data.images.min()) > 0.7  # the resampling filter reaches a little over the edge
    whole = read_data(tmp_path, resize=(8, 8))
    assert [Path(name).is_file() for name in whole.files] == [True] * 4
    assert float(whole.images.min()) < 0.01


def test_the_tables_of_the_other_packing(tmp_path):
    (tmp_path / "Test").mkdir()
    Image.fromarray(np.full((9, 9, 3), 128, np.uint8)).save(tmp_path / "Test" / "00000.png")
    table = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n9,9,1,1,8,8,16,Test/00000.png\n"
    (tmp_path / "Test.csv").write_text(table)
    assert read_data(tmp_path).labels.tolist() == [16]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "../../secret.ppm;40;30;1;1;9;9;0\n", "expected a picture within the folder"),
        (HEAD + "/etc/passwd;40;30;1;1;9;9;0\n", "expected a picture within the folder"),
        (HEAD + "a.ppm;40;x;1;1;9;9;0\n", "row 2: expected whole numbers"),
        ("Name;ClassId\na.ppm;1\n", "expected the columns Filename"),
        (HEAD, "expected signs in its tables, got none"),
    ],
)
def test_tables_of_gtsrb_that_cannot_be_used(tmp_path, text, says):
    signs_folder(tmp_path)
    for table in tmp_path.rglob("GT-*.csv"):
        table.write_text(text)
    with pytest.raises(DataError, match=says):
        read_data(tmp_path, resize=(8, 8))


def tone(path, hertz, rate=8000, seconds=0.4, width=2, channels=1):
    path.parent.mkdir(exist_ok=True)
    wavelets = np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        values = {1: wavelets * 100 + 128, 2: wavelets * 2**14, 4: wavelets * 2**30}[width]
        kind = {1: np.uint8, 2: "<i2", 4: "<i4"}[width]
        file.writeframes(np.repeat(values.astype(kind), channels).tobytes())


def loudest(image):
    """Return the band (0 the lowest) in which most is heard."""
    return BANDS - 1 - int(image[0].mean(1).argmax())


def test_a_folder_of_wav_files_becomes_spectrograms(tmp_path):
    tone(tmp_path / "low" / "a.wav", 300)
    tone(tmp_path / "low" / "b.WAV", 300, rate=16000, width=4, channels=2)
    tone(tmp_path / "high" / "c.wav", 2500, width=1)
    data = read_data(tmp_path)
    assert data.shape == (1, 64, 64)
    assert [data.class_names[label] for label in data.labels] == ["high", "low", "low"]
    assert [Path(name).name for name in data.files] == ["c.wav", "a.wav", "b.WAV"]
    high, low, same = map(loudest, data.images)
    assert high > low + 20
    assert abs(low - same) <= 1
    # silence after the end
    assert float(data.images[1][0, :, 40:].max()) == 0
    assert read_data(tmp_path, unlabelled=True).labels is None


def test_flat_folders_name_class_speaker_and_number(tmp_path):
    for name in ("10_ann_0.wav", "2_bob_0.wav", "2_ann_1.wav"):
        tone(tmp_path / name, 500)
    data = read_data(tmp_path)
    assert data.class_names == ("2", "10")
    assert data.extra["speaker"].tolist() == [0, 0, 1]
    tone(tmp_path / "noname.wav", 500)
    with pytest.raises(DataError, match=r"expected names such as 7_jackson_32\.wav"):
        read_data(tmp_path)


def test_wav_files_that_cannot_be_read(tmp_path):
    tone(tmp_path / "a" / "x.wav", 500)
    whole = (tmp_path / "a" / "x.wav").read_bytes()
    for content in (whole[:30], whole[:44], whole[:20] + b"\x03" + whole[21:], b"RIFF"):
        (tmp_path / "a" / "x.wav").write_bytes(content)
        with pytest.raises(DataError):
            read_data(tmp_path)
    (tmp_path / "a" / "x.wav").write_bytes(whole)
    with pytest.raises(DataError, match="a single recording; name the folder it lies in"):
        read_data(tmp_path / "a" / "x.wav")


def test_recordings_in_one_array(tmp_path):
    path = tmp_path / "digits.npz"
    audio = (np.sin(np.arange(4000)) * 9000).astype(np.int16)
    common = {"audio": audio, "label": np.asarray([4, 2]), "speaker": np.asarray(["b", "a"])}
    np.savez(path, offsets=np.asarray([0, 1000, 4000]), rate=8000, **common)
    data = read_data(path)
    assert data.labels.tolist() == [4, 2]
    assert data.extra["speaker"].tolist() == [1, 0]
    assert np.allclose(data.images[1].permute(1, 2, 0).numpy(), spectrogram(audio[1000:], 8000))
    np.savez(path, offsets=np.asarray([0, 3000, 4001]), **common)
    with pytest.raises(DataError, match="expected rising offsets within 4000 samples, got 0 to 4001"):
        read_data(path)


def test_a_louder_recording_looks_the_same_and_silence_is_black():
    signal = RANDOM.normal(size=5000)
    assert np.allclose(spectrogram(signal, 8000), spectrogram(signal * 100, 8000), atol=1e-5)
    assert spectrogram(np.zeros(100), 8000).max() == 0
