"""Builds a PyTorch network from the nodes of an ONNX graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.onnx.call import Call
from detrojan.models.formats.onnx.description import Array, Description, Node
from detrojan.models.formats.onnx.modules import Apply, Shaped
from detrojan.models.formats.onnx.network import OnnxGraph, Step
from detrojan.models.formats.onnx.registry import handlers
from detrojan.models.formats.onnx.unknown import unknown
from detrojan.models.formats.onnx.values import COUNTS, Data, Known, Pair, PerImage, Source, Value, known

#: values in one step for one image; more is no image classifier but an attack on our memory
_MOST_VALUES = 1 << 28
#: numbers in a tensor that the graph makes of constants
_MOST_NUMBERS = 1 << 26


@dataclass
class Builder:
    """A network in the making.

    Attributes:
        graph: what the file describes.
        where: the file, for error texts.
        counts: the two numbers of images that shapes are worked out for; the same one twice for a graph
            that takes a fixed number.
        network: what was made so far.
        values: the graph's values by name.
        slots: which initializer each tensor of the network is.
        fixed: tensors of the network that the file has no place for.

    """

    graph: Description
    where: str
    counts: tuple[int, int] = COUNTS
    network: OnnxGraph = field(init=False)
    values: dict[str, Value] = field(default_factory=dict)
    slots: dict[str, Source] = field(default_factory=dict)
    fixed: dict[str, torch.Tensor] = field(default_factory=dict)
    images: Data = field(init=False)
    uses: Counter[str] = field(default_factory=Counter)
    _made: int = 0
    _kept: list[Value] = field(default_factory=list)
    _held: dict[tuple[Any, ...], nn.Parameter] = field(default_factory=dict)
    _stored: dict[tuple[Any, ...], Data] = field(default_factory=dict)

    def run(self, shape: tuple[int, int, int], order: tuple[int, ...], drop: tuple[int, ...]) -> None:
        """Add all nodes.

        Args:
            shape: (C, H, W) of the images.
            order: the axes of (N, C, H, W) in the order in which the graph takes them.
            drop: of these axes, the ones that the graph does not have; they have the length 1.

        Raises:
            ModelError: an operator that is not known, or a graph that contradicts itself.

        """
        self.network = OnnxGraph(self.counts[0] if self.counts[0] == self.counts[1] else 0)
        self.images = Data(0, self._blank(shape), raw=True)
        self.uses.update(name for node in self.graph.nodes for name in node.inputs)
        self.uses.update(self.graph.outputs)
        for name, array in self.graph.tensors.items():
            self.values[name] = known(_tensor(array, f"{self.where}: {name!r}"), Source(name))
        with torch.no_grad():
            self.values[self.graph.input] = self._entered(order, drop)
            for node in self.graph.nodes:
                self._node(node)
        self.network.end_in(tuple(self._answer(name) for name in self.graph.outputs), self.graph.outputs)

    def _blank(self, shape: tuple[int, int, int]) -> Pair:
        first, second = (torch.empty(count, *shape, device="meta") for count in self.counts)
        return first, second

    def _entered(self, order: tuple[int, ...], drop: tuple[int, ...]) -> Value:
        """Return the images as the graph takes them."""
        enter = Node(op="", name="input", inputs=(), outputs=("",))
        values: Value = self.images
        if order != (0, 1, 2, 3):
            (values,) = self.add(enter, Apply(torch.permute, dims=order), (values,), 1)
        if drop:
            kept = [self.images.shape[axis] for place, axis in enumerate(order) if place not in drop][1:]
            (values,) = self.add(enter, Shaped("reshape", [PerImage(1), *kept]), (values, self.images), 1)
        return values

    def _node(self, node: Node) -> None:
        label, handler = _label(node, self.where), handlers()[node.op]
        try:
            inputs = [self.values[name] if name else None for name in node.inputs]
            found = handler(Call(self, node, inputs))
        except KeyError as error:
            raise ModelError(f"{label}: expected inputs that are made before, got {error}") from error
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{label}: {first}") from error
        except ModelError as error:
            raise ModelError(f"{label}: {error}") from error
        outputs = found if isinstance(found, list) else [found]
        for place, name in enumerate(node.outputs):
            if not name:
                continue
            if place < len(outputs):
                self.values[name] = outputs[place]
            elif self.uses[name]:
                raise ModelError(f"{label}: expected no use of its output number {place + 1}, got one")

    def _answer(self, name: str) -> int:
        found = self.values.get(name)
        if not isinstance(found, Data) or not isinstance(found.key, int):
            raise ModelError(f"{self.where}: expected outputs that depend on the images, got {name!r}")
        return found.key

    def add(self, node: Node, module: nn.Module, values: Sequence[Value], outputs: int) -> list[Value]:
        """Add a module, or work out what it gives where all its values are known."""
        module.eval()
        others = [value for value in values if value is not self.images] or list(values)
        weights = any(isinstance(value, Known) and value.trainable for value in others)
        free = not weights and all(isinstance(value, Known) for value in others)
        if free:
            return self._worked_out(module, values, outputs)
        raw = all(value.raw for value in others if isinstance(value, Data))
        raw = raw and any(isinstance(value, Data) for value in others)
        if weights and not any(isinstance(value, Data) for value in others):
            raw = False
        return [*self._step(node, module, [self._data(v, fixed=raw) for v in values], outputs, raw=raw)]

    def weigh(
        self, node: Node, module: nn.Module, weights: dict[str, Known], values: Sequence[Value]
    ) -> Data:
        """Add a module with tensors of its own that are in the file."""
        module.eval()
        name = self._free_name(self._called(node, weights))
        for tensor, value in weights.items():
            self.fill(name, module, tensor, value)
        taken = [self._data(value, fixed=False) for value in values]
        (found,) = self._step(node, module, taken, 1, raw=False, name=name)
        return found

    def fill(self, name: str, module: nn.Module, tensor: str, value: Known) -> None:
        """Give a module one of its tensors.

        Raises:
            ModelError: it changes with the number of images, or has another shape than the module's.

        """
        held, wanted = value.constant, getattr(module, tensor)
        if held is None or (wanted is not None and held.shape != wanted.shape):
            got = "none" if held is None else tuple(held.shape)
            raise ModelError(f"expected {tensor} {tuple(wanted.shape)}, got {got}")
        key = f"{name}.{tensor}"
        if tensor in module._buffers:  # noqa: SLF001 - to fill it whatever it was
            module._buffers[tensor] = held.float().contiguous().clone()  # noqa: SLF001
        else:
            setattr(module, tensor, self._parameter(value))
        if value.source is None:
            getattr(module, tensor).requires_grad_(False)
            self.fixed[key] = getattr(module, tensor).detach().clone()
        else:
            self.slots[key] = value.source

    def _parameter(self, value: Known) -> nn.Parameter:
        """Return a parameter; the same one for the same tensor of the file."""
        assert value.constant is not None
        identity = (value.source,) if value.source is not None else (id(value),)
        self._kept.append(value)
        if identity not in self._held:
            self._held[identity] = nn.Parameter(value.constant.float().contiguous().clone())
        return self._held[identity]

    def _worked_out(self, module: nn.Module, values: Sequence[Value], outputs: int) -> list[Value]:
        made: list[tuple[torch.Tensor, ...]] = []
        for side in (0, 1):
            taken = [value.likes[side] if isinstance(value, Data) else value.sides[side] for value in values]
            like = _shadow(module)(*(one.to("meta") for one in taken))
            likes = [like] if isinstance(like, torch.Tensor) else like
            if sum(one.numel() for one in likes) > _MOST_NUMBERS:
                raise ModelError(f"expected at most {_MOST_NUMBERS} numbers out of constants, got more")
            given = module(*taken)
            made.append((given,) if outputs == 1 else tuple(given))
        return [Known((first, second)) for first, second in zip(*made, strict=True)]

    def _data(self, value: Value, *, fixed: bool) -> Data:
        """Return a value as one of the network: what is known becomes a tensor of it."""
        if isinstance(value, Data):
            return value
        held = value.constant
        if held is None:
            return self._spread(value)
        trainable = value.trainable and not fixed
        identity = (value.source, trainable) if value.source is not None else (id(value), trainable)
        self._kept.append(value)
        if identity not in self._stored:
            name = re.sub(r"[^A-Za-z0-9_.]+", "_", value.source.name if value.source else "constant")
            key = self._free_name(".".join(part for part in name.split(".") if part) or "tensor")
            owner, _, last = key.rpartition(".")
            holder = self._holder(owner)
            if trainable:
                holder.register_parameter(last, self._parameter(value))
                assert value.source is not None
                self.slots[key] = value.source
            else:
                stays = held.float() if held.is_floating_point() else held
                holder.register_buffer(last, stays.contiguous().clone(), persistent=False)
            likes = tuple(side.to("meta") for side in value.sides)
            self._stored[identity] = Data(key, (likes[0], likes[1]), raw=False)
        return self._stored[identity]

    def _spread(self, value: Known) -> Data:
        """Return numbers whose shape alone grows with the number of images: one of them for each."""
        first, second = value.sides
        row = first[:1]
        wanted = second.shape[1:] == first.shape[1:] and first.ndim > 0
        if not wanted or (len(first), len(second)) != self.counts:
            raise ModelError("expected constants, got numbers that depend on the number of images")
        if not (torch.equal(first, row.expand_as(first)) and torch.equal(second, row.expand_as(second))):
            raise ModelError("expected the same constants for each image, got different ones")
        module = Shaped("expand", [PerImage(1), *row.shape[1:]])
        stored = self._data(known(row), fixed=True)
        node = Node(op="", name="constant_for_each", inputs=(), outputs=("",))
        (found,) = self._step(node, module, [stored, self.images], 1, raw=True)
        return found

    def _step(
        self,
        node: Node,
        module: nn.Module,
        taken: Sequence[Data],
        outputs: int,
        *,
        raw: bool,
        name: str | None = None,
    ) -> list[Data]:
        name = name or self._free_name(re.sub(r"\W+", "_", node.name).strip("_") or node.op or "step")
        likes: list[Any] = []
        shadow = _shadow(module)
        for side in (0, 1):
            given = shadow(*(value.likes[side] for value in taken))
            likes.append([given] if outputs == 1 else list(given))
        owner, _, last = name.rpartition(".")
        self._holder(owner).add_module(last, module)
        if any(like.numel() > _MOST_VALUES * self.counts[0] for like in likes[0]):
            raise ModelError(f"expected an image classifier, got maps of {tuple(likes[0][0].shape[1:])}")
        numbers = tuple(range(self._made + 1, self._made + 1 + outputs))
        self._made += outputs
        self.network.steps.append(Step(name, tuple(value.key for value in taken), numbers))
        return [
            Data(number, (first, second), raw)
            for number, first, second in zip(numbers, likes[0], likes[1], strict=True)
        ]

    def _called(self, node: Node, weights: dict[str, Known]) -> str:
        """Return a name for a layer: by its weight in the file, where that tells one."""
        sources = [value.source.name for value in weights.values() if value.source is not None]
        name = sources[0] if sources and "::" not in sources[0] else node.name
        if name.endswith(".weight") and re.fullmatch(r"[\w.]+", name):
            parts = [part for part in name.removesuffix(".weight").split(".") if part]
            if parts:
                return ".".join(parts)
        return re.sub(r"\W+", "_", name).strip("_") or node.op

    def _holder(self, owner: str) -> nn.Module:
        """Return the module of a dotted name, made where it is not there yet."""
        module: nn.Module = self.network
        for part in owner.split(".") if owner else ():
            if part not in module._modules:  # noqa: SLF001 - whether there is one
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        return module

    def _free_name(self, name: str) -> str:
        """Return a dotted name that no module or tensor of the network has yet."""
        parts = name.split(".")
        steps = {step.module for step in self.network.steps}
        inside = any(".".join(parts[:end]) in steps for end in range(1, len(parts)))
        module: nn.Module | None = self.network
        for part in parts[:-1]:
            held = None if module is None else getattr(module, part, None)
            inside = inside or (held is not None and not isinstance(held, nn.Module))
            module = held if isinstance(held, nn.Module) else None
        if inside:
            return self._free_name("_".join(parts))
        last = parts[-1]
        while module is not None and hasattr(module, last):
            last += "_"
        return ".".join([*parts[:-1], last])


def _label(node: Node, where: str) -> str:
    return f"{where}: node {node.name!r} ({node.op})"


def refuse_unknown(graph: Description, where: str) -> None:
    """Refuse a graph with operators that are not known.

    Raises:
        ModelError: the first of them, with its node.

    """
    for node in graph.nodes:
        if node.op not in handlers():
            raise ModelError(f"{_label(node, where)}: {unknown(node.op, len(handlers()))}")


def _shadow(module: nn.Module) -> nn.Module:
    """Return the module with tensors of the same shapes that hold no numbers."""
    made = type(module).__new__(type(module))
    made.__dict__ = dict(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        held = getattr(module, kind)
        made.__dict__[kind] = {
            name: None if tensor is None else tensor.detach().to("meta") for name, tensor in held.items()
        }
    return made


def _tensor(array: Array, what: str) -> torch.Tensor:
    """Return an array of the file as a tensor; all real numbers become float32."""
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    elif array.dtype.kind not in "iub":
        raise ModelError(f"{what}: expected numbers, got {array.dtype}")
    return torch.from_numpy(np.array(array))
