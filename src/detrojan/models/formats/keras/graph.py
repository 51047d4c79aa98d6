"""Builds a PyTorch network from a Keras model's configuration and weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.formats.keras.config import (
    MODELS,
    Ref,
    layer_configs,
    read_node_refs,
    read_refs,
    refuse_code,
    snake_case,
    stated_shape,
)
from detrojan.models.formats.keras.layers import CONVERTERS, OTHER_WAY, Config, Part
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.formats.keras.read import KerasFile, Node
from detrojan.models.formats.keras.slots import Slot

#: operations on tensors that do the same as the layers of their names
_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum")
#: values in one step for one image; more is no image classifier but an attack on our memory
_MOST_VALUES = 1 << 28


@dataclass(frozen=True)
class Built:
    """A network out of a Keras file.

    Attributes:
        network: the network with its weights.
        input_shape: (C, H, W).
        slots: where each of its tensors lies in the file.
        fixed: its tensors that the file does not have, with their constant value.

    """

    network: KerasGraph
    input_shape: tuple[int, int, int]
    slots: dict[str, Slot]
    fixed: dict[str, float]


def build_graph(content: KerasFile, input_shape: tuple[int, int, int] | None, where: str) -> Built:
    """Build the network that a file describes.

    Args:
        content: the file.
        input_shape: (C, H, W) for files that leave the size open.
        where: the file, for error texts.

    Raises:
        ModelError: a layer we cannot convert, or a description that contradicts itself.
        UnsafeFileError: a layer that holds code.

    """
    assert content.config is not None
    builder, shape = _lay_out(content.config, _Builder(content, where), input_shape)
    builder.fill()
    return Built(builder.graph, shape, builder.slots, builder.fixed)


def bare_graph(config: Config, input_shape: tuple[int, int, int] | None, where: str) -> KerasGraph:
    """Build the network of a description alone, on the meta device: no weights, and no memory for them.

    Args:
        config: the description, as Keras writes it.
        input_shape: (C, H, W) for descriptions that leave the size open.
        where: the file, for error texts.

    Raises:
        ModelError: a layer we cannot convert, or a description that contradicts itself.
        UnsafeFileError: a layer that holds code.

    """
    content = KerasFile(Node("", ""), config, v3=False)
    builder, _ = _lay_out(config, _Builder(content, where, weightless=True), input_shape)
    builder.freeze()
    return builder.graph


def _lay_out(
    config: Config, builder: _Builder, input_shape: tuple[int, int, int] | None
) -> tuple[_Builder, tuple[int, int, int]]:
    """Add a description's layers; nothing has weights yet."""
    where = builder.where
    try:
        refuse_code(config, where)
        shape = stated_shape(config, input_shape, where)
        with torch.no_grad(), torch.device("meta"):
            first = builder.begin(shape)
            outputs = builder.model(config, [first], ())
        if len(outputs) != 1:
            raise ModelError(f"{where}: expected one output, got {len(outputs)}")
        builder.end(outputs[0].number)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        kind = type(error).__name__
        raise ModelError(f"{where}: its description cannot be understood: {kind}: {error}") from error
    return builder, shape


@dataclass(frozen=True)
class _Value:
    """A tensor of the graph: its number, and a stand-in of its shape that holds no data."""

    number: int
    like: torch.Tensor


@dataclass
class _Builder:
    content: KerasFile
    where: str
    weightless: bool = False
    graph: KerasGraph = field(default_factory=KerasGraph)
    slots: dict[str, Slot] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, torch.Tensor] = field(default_factory=dict)
    nodes: dict[tuple[str, ...], Node] = field(default_factory=dict)
    made: dict[tuple[str, ...], list[tuple[str, Part]]] = field(default_factory=dict)

    def begin(self, shape: tuple[int, int, int]) -> _Value:
        return _Value(0, torch.zeros(2, *shape))

    def model(self, config: Config, inputs: list[_Value], path: tuple[str, ...]) -> list[_Value]:
        """Add all layers of a model and return its outputs."""
        if config["class_name"] == "Sequential":
            for layer in layer_configs(config):
                inputs = self.layer(layer, inputs, path, layer_configs(config))
            return inputs
        if config["class_name"] not in MODELS:
            raise ModelError(
                f"{self.where}: expected a Sequential or Functional model, got {config['class_name']!r}, "
                f"which is code that is not in the file; {OTHER_WAY}"
            )
        return self._functional(config, inputs, path)

    def _functional(self, config: Config, inputs: list[_Value], path: tuple[str, ...]) -> list[_Value]:
        layers = layer_configs(config)
        starts = read_refs(config["config"]["input_layers"])
        if len(starts) != len(inputs):
            raise ModelError(f"{self.where}: expected {len(inputs)} input of the network, got {len(starts)}")
        values: dict[Ref, _Value] = dict(zip(starts, inputs, strict=True))
        waiting = [
            (layer, (layer["name"], number), refs)
            for layer in layers
            for number, refs in enumerate(map(read_node_refs, layer.get("inbound_nodes", [])))
            if layer["class_name"] != "InputLayer"
        ]
        while waiting:
            ready = [job for job in waiting if all(ref in values for ref in job[2])]
            if not ready:
                raise ModelError(f"{self.where}: expected a graph, got layers that wait for each other")
            for layer, (name, number), refs in ready:
                outputs = self.layer(layer, [values[ref] for ref in refs], path, layers)
                values.update({(name, number, i): value for i, value in enumerate(outputs)})
            waiting = [job for job in waiting if job not in ready]
        return [values[ref] for ref in read_refs(config["config"]["output_layers"])]

    def layer(
        self, layer: Config, inputs: list[_Value], path: tuple[str, ...], siblings: list[Config]
    ) -> list[_Value]:
        """Add one layer, or the layers of a model inside the model, and return its outputs."""
        kind, config = layer["class_name"], layer["config"]
        name = layer.get("name") or (config.get("name") if isinstance(config, dict) else "") or kind
        if kind == "InputLayer":
            return inputs
        self._check_origin(layer, name)
        parent = self.nodes.get(path, self.content.root)
        path = (*path, name)
        node = self._child(parent, layer, name, siblings)
        if kind in MODELS:
            # old files list the layers of models in models in models side by side
            self.nodes[path] = node or parent
            return self.model(layer, inputs, path)
        label = f"{self.where}: layer {name!r} ({kind})"
        if kind not in CONVERTERS:
            raise ModelError(f"{label}: expected one out of {', '.join(CONVERTERS)}; {OTHER_WAY}")
        if config.get("data_format") == "channels_first":
            raise ModelError(f"{label}: expected data channels last, got channels first; {OTHER_WAY}")
        try:
            if path not in self.made:
                self.made[path] = self._make(layer, inputs, name, node, label)
            for part_name, part in self.made[path]:
                inputs = [self._apply(part_name, part.module, inputs)]
        except (RuntimeError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ModelError(f"{label}: {error}") from error
        except ModelError as error:
            raise error if str(error).startswith(self.where) else ModelError(f"{label}: {error}") from error
        return inputs

    def _check_origin(self, layer: Config, name: str) -> None:
        module = layer.get("module")
        registered = layer.get("registered_name")
        foreign = isinstance(module, str) and not re.match(r"(tensorflow\.)?keras(\.|$)", module)
        if foreign or ">" in layer["class_name"] or (registered and ">" in str(registered)):
            what = registered or f"{module or ''}.{layer['class_name']}".lstrip(".")
            raise ModelError(
                f"{self.where}: layer {name!r}: expected a layer of Keras, got the custom object "
                f"{what!r}, which is code that is not in the file; {OTHER_WAY}"
            )
        if isinstance(module, str) and ".ops." in module and layer["class_name"] not in _OPERATIONS:
            raise ModelError(
                f"{self.where}: {name!r}: expected layers, got the operation {layer['class_name']!r}; "
                f"{OTHER_WAY}"
            )

    def _make(
        self, layer: Config, inputs: list[_Value], title: str, node: Node | None, label: str
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
                    raise ModelError(f"{label}: expected weights for {tensor}, got none")
                variable = variables.pop(0)
                slot = Slot(path=variable.path, turn=turn, shape=variable.value.shape)
                wanted = tuple(state[tensor].shape)
                if len(slot.shape) != _rank(turn, wanted) or slot.torch_shape() != wanted:
                    raise ModelError(f"{label}: expected {tensor} {wanted}, got an array {slot.shape}")
                self.slots[f"{name}.{tensor}"] = slot
                self.arrays[f"{name}.{tensor}"] = slot.to_torch(variable.value)
        if variables:
            raise ModelError(f"{label}: expected no more weights, got {len(variables)} arrays more")
        return made

    def _child(self, parent: Node, layer: Config, name: str, siblings: list[Config]) -> Node | None:
        """Find a layer's group in the file: by its name, or by its class and count as Keras 3 has it."""
        by_name = next((child for child in parent.children if child.name == name), None)
        if by_name is not None:
            return by_name
        if not self.content.v3:  # an inner model with a single layer has no children of its own
            return parent if parent.owner == name else None
        same = [one for one in siblings if snake_case(one["class_name"]) == snake_case(layer["class_name"])]
        place = same.index(layer)
        key = snake_case(layer["class_name"]) + (f"_{place}" if place else "")
        return next((child for child in parent.children if child.key == key and not child.name), None)

    def _free_name(self, name: str) -> str:
        name = name.replace(".", "_") or "layer"
        while hasattr(self.graph, name):
            name += "_"
        return name

    def _apply(self, name: str, module: nn.Module, inputs: list[_Value]) -> _Value:
        modes = module.training
        module.eval()
        like = module(*(value.like for value in inputs))
        module.train(modes)
        if like.numel() > _MOST_VALUES:
            raise ModelError(f"expected an image classifier, got maps of shape {tuple(like.shape[1:])}")
        number = len(self.graph.steps) + 1
        self.graph.steps.append((name, tuple(value.number for value in inputs), number))
        return _Value(number, like)

    def end(self, answer: int) -> None:
        """Take the softmax off the end, and drop what the answer does not need."""
        used = self.graph.end(answer, self.where)
        for kept_by_tensor in (self.slots, self.fixed, self.arrays):
            for tensor in [t for t in kept_by_tensor if t.rpartition(".")[0] not in used]:
                del kept_by_tensor[tensor]

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


def _rank(turn: str, shape: tuple[int, ...]) -> int:
    return {"conv": 4, "depthwise": 4, "dense": 2}.get(turn, len(shape))
