"""Model files that somebody made to run code, to fill the memory, or never to end."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from detrojan.models.nets import NETS

HEAD = b"\x80\x02"


class Runs:
    """Unpickling it would end the process."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def zipped(path: Path, pickled: bytes, kind: int = zipfile.ZIP_STORED, **records: bytes) -> None:
    """Write what torch.save would, around any pickle."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, content in records.items():
            archive.writestr(f"a/data/{name}", content)


def tensor(shape: str, stride: str, count: int, storage: str = "FloatStorage", call: str = "v2") -> bytes:
    """Return the pickle of {"w": tensor}, of a shape and steps that are pickled already."""
    return (
        HEAD + b"}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_" + call.encode() + b"\n("
        b"(X\x07\x00\x00\x00storagectorch\n" + storage.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number(count).encode("latin-1") + b"tQK\x00" + shape.encode("latin-1") + stride.encode("latin-1")
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


def number(value: int) -> str:
    """Return the pickle of a whole number of any size."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return "\x8a" + chr(len(raw)) + raw.decode("latin-1")


def long_tuple(*values: int) -> str:
    """Return the pickle of a tuple of numbers of any size."""
    return "(" + "".join(map(number, values)) + "t"


def state(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the weights of a network, some of them changed."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        found = NETS["preact_resnet18"].build(10, (3, 32, 32)).state_dict()
    return {**found, **changed}


def holds_itself(path: Path) -> None:
    torch.save(state(), path)
    zipped(path, HEAD + b"}q\x00(X\x01\x00\x00\x00ah\x00X\x05\x00\x00\x00stateh\x00u.")


def keys_of_tuples(path: Path) -> None:
    body = b"}(" + b"K\x01q\x00"
    for n in range(60):
        body += b"h" + bytes([n]) + b"\x86q" + bytes([n + 1])
    zipped(path, HEAD + body + b"K\x01u.")


def wide_graph(path: Path) -> None:
    body = b"}q\x00"
    for n in range(5):
        pairs = b"".join(b"X\x03\x00\x00\x00%03dh" % k + bytes([n]) for k in range(200))
        body = body + b"}q" + bytes([n + 1]) + b"(" + pairs + b"u"
    zipped(path, HEAD + b"]" + b"(" + body + b"e.")


def deep_lists(path: Path) -> None:
    zipped(path, HEAD + b"]" * 300_000 + b"a" * 299_999 + b".")


def deep_dicts(path: Path) -> None:
    zipped(path, HEAD + b"}" + b"X\x01\x00\x00\x00a}" * 100_000 + b"s" * 100_000 + b".")


def endless_tensor(path: Path) -> None:
    zipped(path, tensor(long_tuple(100_000, 100_000), long_tuple(0, 0), 1), **{"0": bytes(4)})


def impossible_shape(path: Path) -> None:
    zipped(path, tensor(long_tuple(10**400), long_tuple(1), 1), **{"0": bytes(4)})


def outside_of_its_storage(path: Path) -> None:
    zipped(path, tensor(long_tuple(1000), long_tuple(1), 1), **{"0": bytes(4)})


def packed_pickle(path: Path) -> None:
    zipped(path, HEAD + bytes(280_000_000), zipfile.ZIP_DEFLATED)


def packed_values(path: Path) -> None:
    count = 200_000_000
    zipped(path, tensor(long_tuple(count * 4), long_tuple(1), count * 4), zipfile.ZIP_DEFLATED, **{"0": b"1"})
    content = path.read_bytes()  # the central directory claims what the tensor needs
    place = content.rindex(b"a/data/0") - 22
    path.write_bytes(content[:place] + struct.pack("<I", count * 16) + content[place + 4 :])


def bz2_values(path: Path) -> None:
    count = 20_000_000
    zipped(
        path, tensor(long_tuple(count), long_tuple(1), count), zipfile.ZIP_BZIP2, **{"0": bytes(4 * count)}
    )


def runs_code(path: Path) -> None:
    torch.save({"state": state(), "more": Runs()}, path)


def runs_code_bare(path: Path) -> None:
    path.write_bytes(pickle.dumps(Runs(), 2))


def names_builtins(path: Path) -> None:
    path.write_bytes(HEAD + b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.")


def float8(path: Path) -> None:
    torch.save({"w": torch.zeros(3, 3).to(torch.float8_e5m2)}, path)


def complex_numbers(path: Path) -> None:
    torch.save({"w": torch.zeros(3, 3, dtype=torch.complex64)}, path)


def nested_tensors(path: Path) -> None:
    call = b"ctorch._utils\n_rebuild_nested_tensor\n(K\x01K\x02K\x03tR"
    zipped(path, HEAD + b"}X\x01\x00\x00\x00w" + call + b"s.")


def wrong_counters(path: Path) -> None:
    found = state()
    name = next(key for key in found if key.endswith("num_batches_tracked"))
    torch.save({**found, name: torch.zeros(5, dtype=torch.int64)}, path)


def cut_off(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:100_000])


def text(path: Path) -> None:
    path.write_text("no model\n" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def full_of_holes(path: Path) -> None:
    with path.open("wb") as file:
        file.write(HEAD)
        file.truncate(128 << 30)


def tensors(path: Path, head: bytes, content: bytes = b"") -> None:
    """Write a safetensors file with any head."""
    path.write_bytes(len(head).to_bytes(8, "little") + head + content)


ONE = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


def name_given_twice(path: Path) -> None:
    tensors(path, ('{"w": ' + ONE + ', "w": ' + ONE + "}").encode(), bytes(4))


def endless_head(path: Path) -> None:
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}" + bytes(100))


def deep_head(path: Path) -> None:
    tensors(path, b'{"w":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")


def too_many_values(path: Path) -> None:
    tensors(path, b'{"w": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 399999999996]}}')


def huge_input(path: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    said = {
        "version": 1, "net": "preact_resnet18", "classes": 10, "input_shape": [3, 4096, 4096],
        "class_names": [],
        "preprocessing": {"mean": [], "std": [], "low": 0, "high": 1, "layout": "NCHW"},
    }  # fmt: skip
    save_file(state(), path, {"detrojan": json.dumps(said)})


def unknown_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def keras_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(280_000_000))


def keras_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")


def keras_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/a/vars/0", (1 << 30,), "f4", chunks=(1 << 28,), compression="gzip")


def keras_wide_window(path: Path) -> None:
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 64, 64, 3]}},
        {"class_name": "Conv2D", "config": {
            "name": "c", "filters": 1, "kernel_size": [511, 511], "strides": [1, 1], "padding": "same",
            "data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1, "use_bias": False,
            "activation": "linear"}},
        {"class_name": "GlobalAveragePooling2D", "config": {"name": "g"}},
        {"class_name": "Dense", "config": {
            "name": "d", "units": 2, "activation": "softmax", "use_bias": False}},
    ]  # fmt: skip
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((511, 511, 3, 1), "f4")
        file["layers/dense/vars/0"] = np.zeros((1, 2), "f4")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())


#: what is made, and what the error says of it
CASES: dict[Callable[[Path], None], str] = {
    holds_itself: "expected a dict of tensors",
    keys_of_tuples: "expected a dict of tensors",
    wide_graph: "expected a dict of tensors",
    deep_lists: "expected a dict of tensors",
    deep_dicts: "expected a dict of tensors",
    endless_tensor: r"its tensors: expected at most 1\.6 GB of memory, got what takes 40\.0 GB",
    impossible_shape: "damaged or cut off: a tensor of an impossible shape|damaged or cut off",
    outside_of_its_storage: r"damaged or cut off: a tensor of shape \(1000,\) out of 1 values",
    packed_pickle: "expected a pickle of at most 268,435,456 bytes",
    packed_values: r"expected at most 1\.6 GB of memory",
    bz2_values: "w|expected a linear layer",
    runs_code: r"would run code when read \(it calls \w+\._exit\); nothing was run",
    runs_code_bare: r"it calls \w+\._exit",
    names_builtins: "it calls eval",
    float8: "expected dense real numbers in 'w', got torch.float8_e5m2",
    complex_numbers: "expected dense real numbers in 'w', got torch.complex64",
    nested_tensors: "expected dense real numbers in 'w'",
    wrong_counters: "expected one number as",
    cut_off: "damaged or cut off",
    text: "which is none of them",
    empty: "is empty",
    pipe: r"expected a plain file, got a FIFO",
    endless_device: "expected a plain file, got a device",
    full_of_holes: "expected a file that stores what it holds",
    name_given_twice: "expected each name once, got 'w' twice",
    endless_head: "none of them|damaged or cut off",
    deep_head: "damaged or cut off",
    too_many_values: "damaged or cut off",
    huge_input: "an answer for images of 3x4096x4096: expected at most",
    unknown_zip: "a zip that holds readme.txt",
    keras_bomb: "times the packed size",
    keras_link: "expected all data in the file itself, got a link",
    keras_chunks: "unpacked, got 4294967296",
    keras_wide_window: "an answer for images of 3x64x64: expected at most",
}
