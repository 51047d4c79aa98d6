"""ONNX files for the tests: exported from PyTorch, or made node by node; and ONNX Runtime beside them."""

import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def exported(network, path, shape, *, new=False, dynamic=True, apart=False):
    """Write a network as PyTorch's older or newer exporter does; `dynamic` leaves the count open.

    The newer one may put the weights in a file of their own, `apart`.
    """
    network.eval()
    images = torch.rand(2 if dynamic else 1, *shape, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if new:
                sizes = {"images": {0: torch.export.Dim("n")}} if dynamic else None
                names = {"input_names": ["images"], "dynamic_shapes": list(sizes.values()) if sizes else None}
                torch.onnx.export(
                    network, (images,), path, dynamo=True, external_data=apart, verbose=False, **names
                )
            else:
                axes = {"images": {0: "n"}} if dynamic else None
                torch.onnx.export(
                    network, (images,), path, dynamo=False, input_names=["images"], dynamic_axes=axes
                )
        finally:
            logging.disable(logging.NOTSET)
    return path


def made(path, nodes, weights, *, shape=("n", 3, 8, 8), outputs=("logits",), opset=17, **more):
    """Write a graph of nodes (op, inputs, output or outputs, attributes)."""
    made_nodes = []
    for op, inputs, output, *attributes in nodes:
        given = attributes[0] if attributes else {}
        names = [output] if isinstance(output, str) else output
        made_nodes.append(helper.make_node(op, inputs, names, name=f"node_{names[0]}", **given))
    graph = helper.make_graph(
        made_nodes,
        "graph",
        [helper.make_tensor_value_info("images", more.get("kind", TensorProto.FLOAT), shape)],
        [
            helper.make_tensor_value_info(name, more.get("answer", TensorProto.FLOAT), None)
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), *more.get("imports", [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=more.get("functions"))
    for key, value in more.get("metadata", {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def runtime(path, images):
    """Return what ONNX Runtime answers to images as the file takes them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.asarray(images)})


def settled(network, shape):
    """Give batch norms statistics and weights that are not the ones they begin with."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return network.eval()


class Residual(nn.Module):
    """Two convolutions with norms and a shortcut, pooled."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 1)
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        maps = nn.functional.max_pool2d(self.norm(self.stem(images)).relu(), 3, 2, 1)
        maps = maps + self.deep(maps) * self.gate(maps)
        return self.head(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))


class Attention(nn.Module):
    """A vision transformer of one block, with a class token."""

    def __init__(self, classes=5):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 17, 16))
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.project = nn.Linear(16, 16)
        self.deep = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, classes)

    def forward(self, images):
        rows = self.patches(images).flatten(2).transpose(1, 2)
        rows = torch.cat([self.token.expand(rows.shape[0], -1, -1), rows], 1) + self.places
        count, length, width = rows.shape
        parts = self.qkv(self.norm(rows)).reshape(count, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        rows = rows + self.project(mixed.transpose(1, 2).reshape(count, length, width))
        return self.head((rows + self.deep(rows))[:, 0])


class ChannelsLast(nn.Module):
    """Takes (N, H, W, C) in 0 to 255, and brings it to what the network inside wants."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", torch.tensor([123.0, 116.0, 103.0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([58.0, 57.0, 57.5]).view(1, 3, 1, 1))

    def forward(self, images):
        return self.inner((images.permute(0, 3, 1, 2) - self.mean) / self.std).softmax(1)
