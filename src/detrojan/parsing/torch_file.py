"""Files of `torch.save`: the largest dict of tensors in them, read without PyTorch and without unpickling."""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detrojan.errors import ModelError, WeightsError
from detrojan.parsing.mapping import mapped
from detrojan.parsing.pickles import Odd
from detrojan.parsing.torch_pickle import SIZES, Name, Storage, Tensor, TorchMachine
from detrojan.quarantine.limits import check_room, stored_size

#: keys under which training scripts keep the weights, best first; decides between equally large ones
USUAL_KEYS = ("state_dict", "model_state_dict", "net", "model", "network", "weights", "params")
_DEPTH = 5
#: more networks than this in one file are not listed
_MOST_NETWORKS = 8
#: no state dict's pickle is longer
MOST_PICKLE = 1 << 28
_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = 30
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, IndexError, KeyError,
    AttributeError, OverflowError, RuntimeError, struct.error,
)  # fmt: skip

Nested = tuple[tuple[str, ...], dict[str, Any]]
#: the tensors that are wanted, and what else is
Chosen = tuple[dict[str, Tensor], dict[str, Any]]
Chooser = Callable[[Any], Chosen]


def parse_torch(path: Path, key: str | None = None) -> dict[str, Any]:
    """Return the largest dict of tensors of a file that torch.save wrote.

    Args:
        path: the file.
        key: what leads to the dict that is wanted instead, "a.b" for b in a; the largest where there is none.

    Returns:
        `nesting`: the keys that lead to the dict. `networks`: what leads to each dict that can be a network.
        `storages`: bytes by name. `tensors`: for each key its dtype, storage, offset, shape and stride, all
        in values.

    Raises:
        UnsafeFileError: reading it would run code from the file.
        WeightsError: a tensor that is not dense.
        ModelError: damaged, TorchScript, or no tensors in it.

    """
    return follow(path, TorchMachine(str(path)), lambda content: _chosen(content, path, key))


def follow(path: Path, machine: TorchMachine, choose: Chooser) -> dict[str, Any]:
    """Follow the pickle of a file that torch.save wrote.

    Args:
        path: the file.
        machine: what follows it.
        choose: returns of what the file holds the tensors that are wanted, by name, and what else is.

    Returns:
        What else is wanted. `storages`: bytes by name. `tensors`: as `parse_torch` returns them.

    Raises:
        UnsafeFileError: reading it would run code from the file.
        ModelError: damaged, TorchScript, or what `choose` raises.

    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        return (_from_zip if zipped else _from_legacy)(path, machine, choose)
    except (ModelError, RecursionError):
        raise
    except _DAMAGE as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: damaged or cut off: {text}") from error


def largest_dict(
    content: Any, is_tensor: Callable[[Any], bool], count: Callable[[Any], int], where: str
) -> Nested:
    """Return the largest dict of tensors in what a file holds, and the keys that lead to it.

    Args:
        content: what it holds.
        is_tensor: tells a tensor.
        count: how many values a tensor has.
        where: the file, for error texts.

    Raises:
        ModelError: there is none.

    """

    def rank(found: Nested) -> tuple[int, int]:
        nesting, tensors = found
        usual = USUAL_KEYS.index(nesting[-1]) if nesting and nesting[-1] in USUAL_KEYS else 99
        return sum(count(tensor) for tensor in tensors.values()), -usual

    nesting, tensors = max(_dicts(content, is_tensor, set()), key=rank, default=((), {}))
    if not tensors:
        kind = "something else" if isinstance(content, Odd | Name) else type(content).__name__
        keys = f" with keys {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else ""
        raise ModelError(f"{where}: expected a dict of tensors, got {kind}{keys:.300}")
    return nesting, tensors


def _dicts(
    content: Any, is_tensor: Callable[[Any], bool], seen: set[tuple[int, str]], nesting: tuple[str, ...] = ()
) -> Iterator[Nested]:
    """Yield each dict with its tensors, also one that is held at many places, or holds itself, only once."""
    name = nesting[-1] if nesting and nesting[-1] in USUAL_KEYS else ""
    if not isinstance(content, dict) or len(nesting) > _DEPTH or (id(content), name) in seen:
        return
    seen.add((id(content), name))
    yield nesting, {key: value for key, value in content.items() if isinstance(key, str) and is_tensor(value)}
    for key, value in content.items():
        if isinstance(key, str):
            yield from _dicts(value, is_tensor, seen, (*nesting, key))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _networks(content: Any) -> tuple[str, ...]:
    """Return what leads to each dict that holds convolutions, once for each that is another one."""
    found: dict[tuple[str, ...], str] = {}
    for nesting, tensors in _dicts(content, _is_tensor, set()):
        if any(len(tensor.shape) == 4 for tensor in tensors.values()):
            storages = tuple(one.storage.key if one.storage else "" for one in tensors.values())
            found.setdefault(storages, ".".join(nesting))
    return tuple(found.values())[:_MOST_NETWORKS]


def _chosen(content: Any, path: Path, key: str | None = None) -> Chosen:
    nesting, tensors = largest_dict(content, _is_tensor, lambda tensor: tensor.count, str(path))
    if key is not None:
        named = [one for one in _dicts(content, _is_tensor, set()) if one[1] and ".".join(one[0]) == key]
        nesting, tensors = next(iter(named), (nesting, tensors))
    check_dense(tensors, path)
    return tensors, {"nesting": nesting, "networks": _networks(content)}


def check_dense(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not dense, or too large together.

    Raises:
        WeightsError: one is not dense.
        ModelError: they are too large.

    """
    for name, tensor in tensors.items():
        if tensor.storage is None:
            raise WeightsError(f"{path}: expected dense real numbers in {name!r}, got torch.{tensor.dtype}")
    taken = sum(tensor.count * SIZES[tensor.dtype] for tensor in tensors.values())
    check_room(taken, f"{path}: its tensors", ModelError, files=stored_size(path))


def _described(chosen: Chosen, storages: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    tensors, more = chosen
    return {
        **more,
        "tensors": {
            key: (one.dtype, one.storage.key, one.offset, one.shape, one.stride)
            for key, one in tensors.items()
            if one.storage is not None
        },
        "storages": storages,
    }


def _from_zip(path: Path, machine: TorchMachine, choose: Chooser) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {member.filename: member for member in archive.infolist()}
        _refuse_script(members, path)
        pickled = next(name for name in members if name == "data.pkl" or name.endswith("/data.pkl"))
        base = pickled.removesuffix("data.pkl")
        if members[pickled].file_size > MOST_PICKLE:
            got = members[pickled].file_size
            raise ModelError(f"{path}: expected a pickle of at most {MOST_PICKLE:,} bytes, got {got:,}")
        chosen = choose(machine.load(archive.read(pickled)))
        order = members.get(f"{base}byteorder")
        swapped = order is not None and archive.read(order).strip() not in {b"", sys.byteorder.encode()}
        storages: dict[str, np.ndarray[Any, Any]] = {}
        whole = mapped(file)
        for storage in _needed(chosen[0], path):
            values = _record(archive, whole, members[f"{base}data/{storage.key}"], storage)
            storages[storage.key] = _swapped(values, storage) if swapped else values
    return _described(chosen, storages)


def _needed(tensors: dict[str, Tensor], path: Path) -> list[Storage]:
    """Return the storages of some tensors, each once."""
    found: dict[str, Storage] = {}
    for tensor in tensors.values():
        assert tensor.storage is not None
        if found.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise ValueError(f"two kinds of values in the storage {tensor.storage.key!r:.60}")
    check_room(
        sum(one.bytes for one in found.values()), f"{path}: its values", ModelError, files=stored_size(path)
    )
    return list(found.values())


def _refuse_script(members: dict[str, zipfile.ZipInfo], path: Path) -> None:
    if any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members):
        raise ModelError(
            f"{path}: expected a state dict, got TorchScript, a program with its weights; "
            f"save the weights alone: torch.save(model.state_dict(), file)"
        )


def _record(
    archive: zipfile.ZipFile, content: np.ndarray[Any, Any], member: zipfile.ZipInfo, storage: Storage
) -> np.ndarray[Any, Any]:
    """Return a storage's bytes. PyTorch does not look at their checksum, which may be left out."""
    if member.file_size != storage.bytes:
        raise ValueError(f"{member.file_size:,} bytes for {storage.count:,} values of {storage.dtype}")
    if member.compress_type != zipfile.ZIP_STORED:
        return np.frombuffer(archive.read(member), np.uint8)
    head = _values(content, member.header_offset, _LOCAL_HEADER).tobytes()
    if head[:4] != b"PK\x03\x04":
        raise ValueError("a record without its header")
    name, extra = struct.unpack("<HH", head[26:30])
    return _values(content, member.header_offset + _LOCAL_HEADER + name + extra, storage.bytes)


def _values(content: np.ndarray[Any, Any], start: int, count: int) -> np.ndarray[Any, Any]:
    values = content[start : start + count]
    if len(values) != count:
        raise EOFError("it ends in the middle of a tensor")
    return values


def _swapped(values: np.ndarray[Any, Any], storage: Storage) -> np.ndarray[Any, Any]:
    size = SIZES[storage.dtype] // (2 if storage.dtype.startswith("complex") else 1)
    return values.view(f"u{size}").byteswap().view(np.uint8)


def _from_legacy(path: Path, machine: TorchMachine, choose: Chooser) -> dict[str, Any]:
    """Read what older PyTorch wrote: pickles one behind the other, then the values."""
    with path.open("rb") as file:
        if machine.load(file) != _MAGIC:
            raise ModelError(
                f"{path}: expected a file of torch.save, got another pickle; where it was made, save the "
                "weights alone: torch.save(model.state_dict(), file)"
            )
        machine.load(file)  # the version, then what kind of machine wrote it
        machine.load(file)
        content = machine.load(file)
        found = dict(machine.storages)
        keys = machine.load(file)
        chosen = choose(content)
        needed = {one.key: one for one in _needed(chosen[0], path)}
        storages: dict[str, np.ndarray[Any, Any]] = {}
        place, whole = file.tell(), mapped(file)
        for name in keys if isinstance(keys, list) else []:
            storage = found.get(str(name))
            file.seek(place)
            count = int.from_bytes(file.read(8), "little")
            if storage is None or count != storage.count:
                raise ValueError(f"{count:,} values in the storage {name!r:.60}")
            if storage.key in needed:
                storages[storage.key] = _values(whole, place + 8, storage.bytes)
            place += 8 + storage.bytes
        if needed.keys() - storages.keys():
            raise EOFError("it ends before all tensors")
    return _described(chosen, storages)
