"""Data files that somebody made to run code, to fill the memory, or never to end."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.lib import format as npy

from hostile_models import Runs


def member(path: Path, content: bytes, kind: int = zipfile.ZIP_STORED, name: str = "images.npy") -> None:
    """Write a zip with one array, or what passes for one."""
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        archive.writestr(name, content)


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """Return the header of an array."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def packed_array(path: Path) -> None:
    side = 21_000
    member(path, header((1, side, side, 1)) + bytes(side * side), zipfile.ZIP_DEFLATED)


def claims_gigabytes(path: Path) -> None:
    member(path, header((7, 1 << 15, 1 << 15)) + bytes(1000))


def claims_terabytes(path: Path) -> None:
    member(path, header((1 << 20, 1 << 15, 1 << 15)) + bytes(1000))


def impossible_sides(path: Path) -> None:
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 400 + b", 8, 8)}"
    text = text.ljust(500) + b"\n"
    member(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)


def long_header(path: Path) -> None:
    member(path, b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + b"{" * 1000)


def objects(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), images=np.array([Runs()], dtype=object))
    path.with_suffix(".npz").rename(path)


def long_doubles(path: Path) -> None:
    member(path, header((2, 8, 60), "<f16") + bytes(2 * 480 * 16))


def dates(path: Path) -> None:
    member(path, header((2, 8, 8), "<M8[s]") + bytes(2 * 64 * 8))


def not_a_number(path: Path) -> None:
    member(path, header((2, 28, 28), "<f4") + np.full((2, 28, 28), np.nan, "<f4").tobytes())


def no_zip(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(1000))


def hdf5_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (16, 1 << 14, 1 << 14), "u1", chunks=(8, 1 << 14, 1 << 14), compression=9
        )


def hdf5_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink("/etc/passwd", "/")


def hdf5_outside(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (2, 8, 8), "u1", external=[("/etc/passwd", 0, 128)])


def hdf5_without_values(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=h5py.Empty("f4"))


def hdf5_cut_off(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((100, 28, 28), "u1")
    path.write_bytes(path.read_bytes()[:3000])


def idx_claims_gigabytes(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x08\x03" + struct.pack(">III", 7, 1 << 15, 1 << 15))


def idx_packed(path: Path) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = b"\x00\x00\x08\x03" + struct.pack(">III", 7, 1 << 15, 1 << 15)
    pieces = [pack.compress(head), *(pack.compress(bytes(1 << 24)) for _ in range(8)), pack.flush()]
    path.write_bytes(b"".join(pieces))


def gzip_of_nothing(path: Path) -> None:
    path.write_bytes(gzip.compress(b"nothing"))


def batch_that_runs(path: Path) -> None:
    path.write_bytes(pickle.dumps({"data": Runs(), "labels": [1]}, 2))


def batch_of_tuples(path: Path) -> None:
    level = b"".join(b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60))
    path.write_bytes(b"\x80\x02}(K\x01q\x00" + level + b"K\x01u.")


def wide_picture(path: Path) -> None:
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def long_recording(path: Path) -> None:
    path.mkdir()
    target = path / "1_a_1.wav"
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(100))
    content = bytearray(target.read_bytes())
    content[40:44] = struct.pack("<I", 0xFFFFFFF0)
    target.write_bytes(content)


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(100_000))


def full_of_holes(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(128 << 30)


#: what is made, and what the error says of it
CASES: dict[Callable[[Path], None], str] = {
    packed_array: "its images: expected at most 1.6 GB of memory, got what takes 1.8 GB",
    claims_gigabytes: r"--memory allows more|damaged",
    claims_terabytes: "expected at most 8 GiB, got an array that claims",
    impossible_sides: "damaged",
    long_header: "damaged",
    objects: "holds Python objects",
    long_doubles: "proportions",
    dates: "not of plain numbers",
    not_a_number: "NaN|finite",
    no_zip: "truncated or damaged",
    hdf5_chunks: "--memory allows more|damaged|expected",
    hdf5_link: "points to the file '/etc/passwd', which is not read",
    hdf5_outside: "lies in another file, which is not read",
    hdf5_without_values: "expected",
    hdf5_cut_off: "truncated or damaged",
    idx_claims_gigabytes: "--memory allows more|bytes as its head says|truncated",
    idx_packed: "--memory allows more|bytes as its head says",
    gzip_of_nothing: "expected",
    batch_that_runs: "without running it; got the name",
    batch_of_tuples: "expected images under one of",
    wide_picture: "expected a picture|pixels",
    long_recording: "expected 1 to|truncated",
    noise: "something else",
    full_of_holes: "stores what it holds|damaged",
}
