"""Reads which tensors and constants each call of a layer takes, as Keras 2 and as Keras 3 write it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from detrojan.errors import ModelError

#: a tensor of the graph as Keras names it: the layer, which call of it, which output of the call
Ref = tuple[str, int, int]
#: in place of a layer's name where Keras 2 passes a constant
_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Taken:
    """Stands for a tensor in the arguments of a call: which of the call's tensors it is."""

    place: int


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        refs: the tensors that it takes.
        args: its arguments, with `Taken` for tensors.
        kwargs: the same, by name.

    """

    refs: list[Ref] = field(default_factory=list)
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def take(self, ref: Any) -> Taken:
        """Note a tensor and return what stands for it."""
        self.refs.append(read_ref(ref))
        return Taken(len(self.refs) - 1)


def read_ref(ref: Any) -> Ref:
    """Read [layer, call, output]."""
    return str(ref[0]), int(ref[1]), int(ref[2])


def read_refs(value: Any) -> list[Ref]:
    """Read one or several [layer, call, output]; outputs may have names."""
    return [ref for _, ref in named_refs(value)]


def named_refs(value: Any) -> list[tuple[str, Ref]]:
    """Read the same, each with its name; where it has none that is the layer's."""
    if isinstance(value, dict):
        return [(str(key), ref) for key, part in value.items() for ref in read_refs(part)]
    if value and isinstance(value[0], str):
        value = [value]
    return [(str(ref[0]), read_ref(ref)) for ref in value]


def read_calls(layer: dict[str, Any]) -> Iterator[Call]:
    """Read the calls of a layer."""
    for node in layer.get("inbound_nodes", []):
        yield _new(node) if isinstance(node, dict) else _old(node)


def _new(node: dict[str, Any]) -> Call:
    call = Call()
    call.args = [_argument(one, call) for one in node["args"]]
    call.kwargs = {key: _argument(one, call) for key, one in node.get("kwargs", {}).items()}
    return call


def _argument(value: Any, call: Call) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return call.take(value["config"]["keras_history"])
    if isinstance(value, list):
        return [_argument(one, call) for one in value]
    return value


def _old(node: Any) -> Call:
    call = Call()
    parts = [node] if node and isinstance(node[0], str) else node
    for part in parts:
        call.args.append(part[2] if part[0] == _CONSTANT else call.take(part))
        for key, value in (part[3] if len(part) > 3 else {}).items():
            call.kwargs[key] = _old_argument(value, call)
    return call


def _old_argument(value: Any, call: Call) -> Any:
    if isinstance(value, list):
        if len(value) in {3, 4} and isinstance(value[0], str) and all(type(n) is int for n in value[1:3]):
            return value[2] if value[0] == _CONSTANT else call.take(value)
        return [_old_argument(one, call) for one in value]
    return value


def check_tensors_alone(call: Call) -> None:
    """Refuse a call of a layer with anything but tensors.

    Raises:
        ModelError: a constant, or a setting that changes what the layer does.

    """
    pending = list(call.args)
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif not isinstance(item, Taken):
            raise ModelError(f"expected the inputs of a layer to be tensors, got {item!r}")
    for key, value in call.kwargs.items():
        if value is not None and key not in {"training", "mask"}:
            raise ModelError(f"expected a layer that takes only tensors, got {key}={value!r}")
