"""Adds a Keras model's layers to a network, one after the other, and finds each one's weights."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.calls import (
    Call,
    Ref,
    check_tensors_alone,
    named_refs,
    read_calls,
    read_refs,
)
from detrojan.models.formats.keras.config import MODELS, layer_configs, snake_case
from detrojan.models.formats.keras.layers import AUGMENTATIONS, CONVERTERS, wanted_order
from detrojan.models.formats.keras.modules import Reorder
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.formats.keras.operations import by_value, convert, operation_of
from detrojan.models.formats.keras.parts import EXPORT, OTHER_WAY, Config, Part
from detrojan.models.formats.keras.slots import Slot
from detrojan.parsing.keras_file import KerasFile, Node

#: values in one step for one image; more is no image classifier but an attack on our memory
_MOST_VALUES = 1 << 28
#: steps of a network; the largest networks of the field have a quarter of it
_MOST_STEPS = 8192
_FIRST_TO_LAST, _LAST_TO_FIRST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        number: its number among the graph's values.
        like: a stand-in of its shape (N, C, H, W) or (N, ...) that holds no data.
        last: whether Keras has the channels of maps last, so that its axes differ from ours.

    """

    number: int
    like: torch.Tensor
    last: bool = True

    @property
    def maps(self) -> bool:
        """Whether it has four axes."""
        return self.like.ndim == 4


@dataclass
class Builder:
    """A network in the making.

    Attributes:
        content: the file.
        where: the file, for error texts.
        weightless: build from the description alone.
        graph: the network.
        slots: where each of its tensors lies in the file.
        fixed: its tensors that the file does not have, with their constant value.
        arrays: the values of its tensors.
        silent: the augmentation layers that do nothing here.

    """

    content: KerasFile
    where: str
    weightless: bool = False
    graph: KerasGraph = field(default_factory=KerasGraph)
    slots: dict[str, Slot] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, torch.Tensor] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    _nodes: dict[tuple[str, ...], Node] = field(default_factory=dict)
    _made: dict[tuple[str, ...], list[tuple[str, Part]]] = field(default_factory=dict)

    def model(self, config: Config, inputs: list[Value], path: tuple[str, ...]) -> list[tuple[str, Value]]:
        """Add all layers of a model and return its outputs with their names."""
        layers = layer_configs(config)
        if config["class_name"] == "Sequential":
            for layer in layers:
                inputs = self.layer(layer, _plain_call(inputs), inputs, path, layers)
            return [("output", value) for value in inputs]
        if config["class_name"] not in MODELS:
            raise ModelError(
                f"{self.where}: expected a Sequential or Functional model, got {config['class_name']!r}, "
                f"which is code that is not in the file; {OTHER_WAY}"
            )
        return self._functional(config, inputs, path)

    def _functional(
        self, config: Config, inputs: list[Value], path: tuple[str, ...]
    ) -> list[tuple[str, Value]]:
        layers = layer_configs(config)
        starts = read_refs(config["config"]["input_layers"])
        if len(starts) != len(inputs):
            raise ModelError(f"{self.where}: expected {len(inputs)} input of the network, got {len(starts)}")
        values: dict[Ref, Value] = dict(zip(starts, inputs, strict=True))
        jobs = [
            (layer, (layer["name"], number), call)
            for layer in layers
            if layer["class_name"] != "InputLayer"
            for number, call in enumerate(read_calls(layer))
        ]
        waits: dict[Ref, list[int]] = {}
        missing = [len(set(call.refs) - values.keys()) for _, _, call in jobs]
        for place, (_, _, call) in enumerate(jobs):
            for ref in set(call.refs) - values.keys():
                waits.setdefault(ref, []).append(place)
        ready, done = deque(place for place, count in enumerate(missing) if count == 0), 0
        while ready:
            layer, (name, number), call = jobs[ready.popleft()]
            done += 1
            outputs = self.layer(layer, call, [values[ref] for ref in call.refs], path, layers)
            for index, value in enumerate(outputs):
                ref = (name, number, index)
                values[ref] = value
                for place in waits.pop(ref, []):
                    missing[place] -= 1
                    if missing[place] == 0:
                        ready.append(place)
        if done < len(jobs):
            raise ModelError(f"{self.where}: expected a graph, got layers that wait for each other")
        return [(name, values[ref]) for name, ref in named_refs(config["config"]["output_layers"])]

    def layer(
        self, layer: Config, call: Call, inputs: list[Value], path: tuple[str, ...], siblings: list[Config]
    ) -> list[Value]:
        """Add one layer, or the layers of a model inside the model, and return its outputs."""
        kind, config = layer["class_name"], layer["config"]
        name = layer.get("name") or (config.get("name") if isinstance(config, dict) else "") or kind
        if kind == "InputLayer":
            return inputs
        self._check_origin(layer, name)
        label = f"{self.where}: layer {name!r} ({kind})"
        try:
            operation = operation_of(layer)
            if operation is not None:
                return [self._operate(operation, name, config, call, inputs)]
            check_tensors_alone(call)
            parent = self._nodes.get(path, self.content.root)
            path = (*path, name)
            node = self._child(parent, layer, name, siblings)
            if kind in MODELS:
                # old files list the layers of models in models in models side by side
                self._nodes[path] = node or parent
                return [value for _, value in self.model(layer, inputs, path)]
            return self._convert(layer, name, inputs, path, node)
        except (RuntimeError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ModelError(f"{label}: {error}") from error
        except ModelError as error:
            raise error if str(error).startswith(self.where) else ModelError(f"{label}: {error}") from error

    def _convert(
        self, layer: Config, name: str, inputs: list[Value], path: tuple[str, ...], node: Node | None
    ) -> list[Value]:
        """Add the modules of a layer; one that was added before is called again."""
        kind, config = layer["class_name"], layer["config"]
        if kind not in CONVERTERS:
            raise ModelError(f"expected one of the {len(CONVERTERS)} layers that are read; {EXPORT}")
        order = wanted_order(kind, config)
        if kind in AUGMENTATIONS and name not in self.silent:
            self.silent.append(name)
        inputs = self._in_order(inputs, name, order)
        if path not in self._made:
            self._made[path] = self._make(layer, inputs, name, node)
        last = inputs[0].last if inputs and inputs[0].maps else True
        for part_name, part in self._made[path]:
            inputs = [replace(self._apply(part_name, part.module, inputs), last=last)]
        return inputs

    def _in_order(self, inputs: list[Value], name: str, last: bool | None) -> list[Value]:
        """Bring maps into the order that a layer wants; None for that of the first of them."""
        maps = [value for value in inputs if value.maps]
        if last is None and maps:
            last = maps[0].last
        return [
            self._turned(value, name, bool(last)) if value.maps and value.last != last else value
            for value in inputs
        ]

    def _turned(self, value: Value, name: str, last: bool) -> Value:
        module = Reorder(_FIRST_TO_LAST if last else _LAST_TO_FIRST)
        return replace(self.add(f"{name}_order", module, [value]), last=last)

    def add(self, title: str, module: nn.Module, inputs: list[Value]) -> Value:
        """Add a module without weights."""
        name = self._free_name(title)
        self.graph.add_module(name, module)
        return self._apply(name, module, inputs)

    def _operate(self, operation: str, name: str, config: Config, call: Call, inputs: list[Value]) -> Value:
        """Add an operation, in Keras's own order of axes."""
        module = convert(operation, config, call.args, call.kwargs)
        alike = len({value.like.ndim for value in inputs}) == 1
        last = inputs[0].last if by_value(module) and alike else False
        return replace(self.add(name, module, self._in_order(inputs, name, last)), last=last)

    def _check_origin(self, layer: Config, name: str) -> None:
        module = layer.get("module")
        registered = layer.get("registered_name")
        foreign = isinstance(module, str) and not re.match(r"(tensorflow\.)?(tf_)?keras(\.|$)", module)
        if foreign or ">" in layer["class_name"] or (registered and ">" in str(registered)):
            what = registered or f"{module or ''}.{layer['class_name']}".lstrip(".")
            raise ModelError(
                f"{self.where}: layer {name!r}: expected a layer of Keras, got the custom object "
                f"{what!r}, which is code that is not in the file; {OTHER_WAY}"
            )

    def _make(
        self, layer: Config, inputs: list[Value], title: str, node: Node | None
    ) -> list[tuple[str, Part]]:
        shapes = [tuple(value.like.shape) for value in inputs]
        parts = CONVERTERS[layer["class_name"]](layer["config"], shapes)
        variables = list(node.variables) if node else []
        made: list[tuple[str, Part]] = []
        for part in parts:
            name = self._free_name(title + part.suffix)
            self.graph.add_module(name, part.module)
            made.append((name, part))
            self.fixed.update({f"{name}.{tensor}": value for tensor, value in part.fixed})
            state = part.module.state_dict()
            for tensor, turn in () if self.weightless else part.weights:
                if not variables:
                    raise ModelError(f"expected weights for {tensor or 'a count'}, got none")
                variable = variables.pop(0)
                if not tensor:
                    continue
                slot = Slot(path=variable.path, turn=turn, shape=variable.value.shape)
                wanted = tuple(state[tensor].shape)
                if slot.torch_shape() != wanted:
                    raise ModelError(f"expected {tensor} {wanted}, got an array {slot.shape}")
                self.slots[f"{name}.{tensor}"] = slot
                self.arrays[f"{name}.{tensor}"] = slot.to_torch(variable.value)
        if variables:
            raise ModelError(f"expected no more weights, got {len(variables)} arrays more")
        return made

    def _child(self, parent: Node, layer: Config, name: str, siblings: list[Config]) -> Node | None:
        """Find a layer's group in the file: by its name, or by its class and count as Keras 3 has it."""
        by_name = parent.by_name.get(name)
        if by_name is not None:
            return by_name
        if not self.content.v3:  # an inner model with a single layer has no children of its own
            return parent if parent.owner == name else None
        same = [one for one in siblings if snake_case(one["class_name"]) == snake_case(layer["class_name"])]
        place = next(place for place, one in enumerate(same) if one is layer)
        key = snake_case(layer["class_name"]) + (f"_{place}" if place else "")
        return next((child for child in parent.children if child.key == key and not child.name), None)

    def _free_name(self, name: str) -> str:
        name = name.replace(".", "_") or "layer"
        while hasattr(self.graph, name):
            name += "_"
        return name

    def _apply(self, name: str, module: nn.Module, inputs: list[Value]) -> Value:
        modes = module.training
        module.eval()
        like = module(*(value.like for value in inputs))
        module.train(modes)
        if like.numel() > _MOST_VALUES:
            raise ModelError(f"expected an image classifier, got maps of shape {tuple(like.shape[1:])}")
        number = len(self.graph.steps) + 1
        if number > _MOST_STEPS:
            raise ModelError(f"expected at most {_MOST_STEPS} layers, got more")
        self.graph.steps.append((name, tuple(value.number for value in inputs), number))
        self.graph.sizes[number] = tuple(like.shape[2:])
        return Value(number, like)

    def squashed(self, value: Value) -> Value:
        """Return a single unit behind a sigmoid, so that nobody has to guess whether it is a logit."""
        maker = next((name for name, _, number in self.graph.steps if number == value.number), None)
        module = self.graph.get_submodule(maker) if maker else None
        single = tuple(value.like.shape[1:]) == (1,) and isinstance(module, nn.Linear)
        return self.add("sigmoid", nn.Sigmoid(), [value]) if single else value

    def end(self, answers: dict[str, int]) -> None:
        """Take the softmax off each end, and drop what the answers do not need."""
        used = self.graph.end(answers, self.where)
        for kept_by_tensor in (self.slots, self.fixed, self.arrays):
            for tensor in [t for t in kept_by_tensor if t.rpartition(".")[0] not in used]:
                del kept_by_tensor[tensor]
        wanted = self.graph.state_dict()
        for tensor, slot in self.slots.items():
            if slot.turn == "conv" and wanted[tensor].ndim == 2:  # it has become a linear layer
                self.slots[tensor] = replace(slot, turn="head")
                self.arrays[tensor] = self.arrays[tensor].flatten(1)

    def fill(self) -> None:
        """Put the weights in."""
        self.graph.to_empty(device="cpu")
        state = self.graph.state_dict()
        with torch.no_grad():
            for name, tensor in state.items():
                if name in self.arrays:
                    tensor.copy_(self.arrays[name])
                else:
                    tensor.fill_(self.fixed.get(name, 0.0))
        self.freeze()

    def freeze(self) -> None:
        """Let no training change what the file could not keep."""
        for name in self.fixed:
            self.graph.get_parameter(name).requires_grad_(False)


def _plain_call(inputs: list[Value]) -> Call:
    return Call(refs=[("", 0, number) for number in range(len(inputs))])
