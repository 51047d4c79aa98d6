"""Reads the weights and the configuration out of Keras files: HDF5 and JSON, never Keras itself.

Nothing in such a file is executed, because nothing here can execute anything. What HDF5 offers an
attacker besides, links to other files and arrays that unpack to terabytes, is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.quarantine import quarantined

#: no classifier is larger; above these a file is taken for an attack on our memory
MAX_BYTES, MAX_OBJECTS, MAX_DEPTH = 4 << 30, 100_000, 32
#: compressed data may unpack to this many times their size, once they are more than a trifle
_MAX_RATIO, _TRIFLE = 200, 64 << 20
#: where Keras 3 and the late Keras 2 keep the layers of a model
_V3_LAYERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True)
class Variable:
    """One array of a file: its path and its values."""

    path: str
    value: np.ndarray[Any, Any]


@dataclass
class Node:
    """A layer of the file with its arrays in Keras's order, and the layers in it.

    Attributes:
        key: the group's name, which Keras 3 makes from the layer's class.
        name: the layer's name; empty where the file does not say it.
        variables: the layer's own arrays.
        children: the layers of a nested model.
        owner: the layer that the arrays' paths name, in the layout of Keras 2.

    """

    key: str
    name: str
    variables: list[Variable] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    owner: str = ""

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The layers in it that have names."""
        return {child.name: child for child in reversed(self.children) if child.name}

    def leaves(self) -> Iterator[Node]:
        """Yield every layer that has arrays, in the file's order."""
        if self.variables:
            yield self
        for child in self.children:
            yield from child.leaves()


@dataclass(frozen=True)
class KerasFile:
    """What a Keras file holds.

    Attributes:
        root: the model's layers.
        config: its architecture as Keras describes it, or None for weights alone.
        v3: whether the weights are laid out as Keras 3 does.
        version: of the Keras that wrote it, or empty.

    """

    root: Node
    config: dict[str, Any] | None
    v3: bool
    version: str = ""


@contextmanager
def damaged(where: str) -> Iterator[None]:
    """Turn what h5py, zipfile and json raise on a damaged file into our error."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{where}: damaged or cut off: {error}") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ModelError(f"{where}: damaged or cut off: {error}") from error


def read_h5(path: Path) -> KerasFile:
    """Read a full or weights-only .h5 file of any Keras.

    Raises:
        ModelError: damaged, or not of Keras.
        UnsafeFileError: it links to other files.

    """
    return _told(quarantined(parse_h5, path), path)


def read_zip(path: Path) -> KerasFile:
    """Read a .keras file.

    Raises:
        ModelError: damaged, or not of Keras.
        UnsafeFileError: its weights link to other files.

    """
    return _told(quarantined(parse_zip, path), path)


def parse_h5(path: Path) -> dict[str, Any]:
    """Return what an .h5 file holds, as plain values.

    Raises:
        ModelError: damaged, or not of Keras.
        UnsafeFileError: it links to other files.

    """
    with damaged(str(path)), h5py.File(path, "r") as file:
        return _plain(_parse_h5(file, path.stat().st_size, str(path)))


def parse_zip(path: Path) -> dict[str, Any]:
    """Return what a .keras file holds, as plain values.

    Raises:
        ModelError: damaged, or not of Keras.
        UnsafeFileError: its weights link to other files.

    """
    with damaged(str(path)):
        members = read_members(path)
        config = _parse_json(members["config.json"], f"{path}: config.json")
        weights = members["model.weights.h5"]
        with h5py.File(io.BytesIO(weights), "r") as file:
            found = _parse_h5(file, len(weights), f"{path}: model.weights.h5")
        said = _parse_json(members.get("metadata.json", b"{}"), f"{path}: metadata.json")
        return _plain(KerasFile(found.root, config, found.v3, str(said.get("keras_version", ""))))


def _plain(content: KerasFile) -> dict[str, Any]:
    """Return a file's content as plain values: each layer with the number of the one that it lies in."""
    nodes: list[tuple[int, str, str, str, list[tuple[str, Any]]]] = []
    pending = [(content.root, -1)]
    while pending:
        node, parent = pending.pop()
        variables = [(one.path, one.value) for one in node.variables]
        nodes.append((parent, node.key, node.name, node.owner, variables))
        pending += [(child, len(nodes) - 1) for child in reversed(node.children)]
    config = None if content.config is None else json.dumps(content.config)
    return {"nodes": nodes, "config": config, "v3": content.v3, "version": content.version}


def _told(said: dict[str, Any], path: Path) -> KerasFile:
    """Return the content again out of plain values."""
    nodes: list[Node] = []
    for parent, key, name, owner, variables in said["nodes"]:
        node = Node(key, name, [Variable(where, value) for where, value in variables], owner=owner)
        if nodes:
            nodes[parent].children.append(node)
        nodes.append(node)
    config = None if said["config"] is None else _parse_json(said["config"], f"{path}: its description")
    return KerasFile(nodes[0], config, bool(said["v3"]), str(said["version"]))


def read_members(path: Path) -> dict[str, bytes]:
    """Return the members of a .keras file by name; they are small or refused."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        if total > MAX_BYTES or (total > _TRIFLE and total > _MAX_RATIO * packed):
            raise ModelError(
                f"{path}: expected at most {MAX_BYTES} bytes unpacked and {_MAX_RATIO} times "
                f"the packed size, got {total} bytes out of {packed}"
            )
        return {member.filename: archive.read(member) for member in members}


def _parse_json(text: bytes | str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: expected JSON, got something else: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{where}: expected a JSON object, got {type(found).__name__}")
    return found


def _parse_h5(file: h5py.File, size: int, where: str) -> KerasFile:
    _check_tree(file, size, where)
    config = None
    if "model_config" in file.attrs:
        config = _parse_json(_text(file.attrs["model_config"]), f"{where}: model_config")
    group = file.get("model_weights", file)
    version = _text(file.attrs.get("keras_version", group.attrs.get("keras_version", "")))
    if _attribute_list(group, "layer_names") is not None:
        return KerasFile(_legacy_root(group, where), config, v3=False, version=version)
    for name in _V3_LAYERS:
        if name in file:
            return KerasFile(_v3_node(file, "", where), config, v3=True, version=version)
    some = ", ".join(list(file)[:4]) or "nothing"
    raise ModelError(f"{where}: expected Keras weights (layer_names or layers/), got HDF5 with {some}")


def _check_tree(file: h5py.File, size: int, where: str) -> None:
    """Walk every link of the file and refuse what leads out of it or out of our memory."""
    total, objects = 0, 0
    pending: list[tuple[h5py.Group, int]] = [(file, 0)]
    while pending:
        group, depth = pending.pop()
        for name in group:
            objects += 1
            if objects > MAX_OBJECTS or depth > MAX_DEPTH:
                raise ModelError(
                    f"{where}: expected at most {MAX_OBJECTS} objects {MAX_DEPTH} deep, got more"
                )
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise UnsafeFileError(
                    f"{where}: expected all data in the file itself, got a link at {group.name}/{name}"
                    f"{_target(link)}; a model's file must not read other files"
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, where)
                total += item.nbytes
    if total > MAX_BYTES or (total > _TRIFLE and total > _MAX_RATIO * size):
        raise ModelError(f"{where}: expected at most {MAX_BYTES} bytes unpacked, got {total} out of {size}")


def _target(link: Any) -> str:
    return f" to {link.filename}" if isinstance(link, h5py.ExternalLink) else ""


def _check_dataset(data: h5py.Dataset, where: str) -> None:
    if data.external or data.is_virtual:
        raise UnsafeFileError(
            f"{where}: expected all data in the file itself, got {data.name} stored in another file; "
            f"a model's file must not read other files"
        )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _attribute_list(group: h5py.Group, name: str) -> list[str] | None:
    """Return a list of names; Keras cuts long ones into numbered pieces."""
    if name in group.attrs:
        return [_text(value) for value in np.asarray(group.attrs[name]).ravel()]
    if f"{name}0" not in group.attrs:
        return None
    found: list[str] = []
    while (piece := f"{name}{len(found)}") in group.attrs:
        found.append(piece)
    return [_text(value) for piece in found for value in np.asarray(group.attrs[piece]).ravel()]


def _array(data: Any, where: str) -> Variable:
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu":
        kind = data.dtype if isinstance(data, h5py.Dataset) else type(data).__name__
        raise ModelError(f"{where}: expected an array of numbers at {data.name}, got {kind}")
    return Variable(data.name, np.asarray(data[()]))


def _legacy_root(group: h5py.Group, where: str) -> Node:
    root = Node("", "")
    for name in _attribute_list(group, "layer_names") or []:
        paths = _attribute_list(group[name], "weight_names") or []
        variables = [(path, _array(group[name][path], where)) for path in paths]
        root.children.append(_legacy_layer(name, variables))
    return root


def _legacy_layer(name: str, variables: list[tuple[str, Variable]]) -> Node:
    """Return a layer; a nested model's arrays lie side by side and are told apart by their paths."""
    owners = {path: (path.rsplit("/", 2)[-2] if "/" in path else name) for path, _ in variables}
    if len(set(owners.values())) <= 1:
        owner = next(iter(owners.values()), "")
        return Node(name, name, [variable for _, variable in variables], owner=owner)
    node = Node(name, name)
    for owner in dict.fromkeys(owners.values()):
        own = [variable for path, variable in variables if owners[path] == owner]
        node.children.append(Node(owner, owner, own))
    return node


def _v3_node(group: h5py.Group, key: str, where: str) -> Node:
    node = Node(key, "")
    own = group.get("vars")
    if isinstance(own, h5py.Group):
        node.name = _text(own.attrs.get("name", ""))
        node.variables = [_array(own[index], where) for index in sorted(own, key=int)]
    for container in _V3_LAYERS:
        inner = group.get(container)
        if isinstance(inner, h5py.Group):
            for name in sorted(inner, key=_counted):
                node.children.append(_v3_node(inner[name], name, where))
            break
    return node


def _counted(name: str) -> tuple[str, int]:
    """Sort dense, dense_1, ... dense_10 in the order in which they were made."""
    found = re.fullmatch(r"(.+?)(?:_(\d{1,9}))?", name)
    assert found is not None
    return found.group(1), int(found.group(2) or -1)
