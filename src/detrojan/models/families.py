"""Tells from the names in a file which family of networks its weights are of, for the advice in errors.

Nothing is loaded by such a guess: a person has to say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from detrojan.models.matching import Shape

#: names that only networks for texts, tables or sounds have
_NO_IMAGES = (
    r"word_embeddings|token_embd|embed_tokens|\bwte\b|tok_embeddings|\bembedding\.weight|\bembeddings\.weight"
    r"|weight_ih_l\d|lm_head|decoder\.layers\.\d+\.encoder_attn|feature_tokenizer"
)
#: how transformers names the parts of its image classifiers
_HUGGING_FACE = (
    r"(^|\.)(vit|deit|beit|dinov2|swin|swinv2|convnext|convnextv2|resnet)\.(embeddings|embedder|encoder)\."
)
#: first blocks of each stage of residual networks, and what they are called, without and with bottlenecks
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
#: width of a vision transformer, and what it is called
_VITS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
_DENSENETS: dict[tuple[int, ...], str] = {
    (6, 12, 24, 16): "121",
    (6, 12, 32, 32): "169",
    (6, 12, 48, 32): "201",
    (6, 12, 36, 24): "161",
}
#: number of convolutions of a VGG, and its depth
_VGGS = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
#: a name that tells a family, what it is called, and what its networks are listed by
_OTHERS = (
    (
        r"^layers\.0\.blocks\.0\.attn\.relative",
        "a Swin transformer",
        "timm:swin*",
    ),
    (r"^features\.1\.0\.attn\.relative", "a Swin transformer", "torchvision:swin*"),
    (r"^stages\.0\.blocks\.0\.conv_dw\.weight$", "a ConvNeXt", "timm:convnext*"),
    (r"^features\.1\.0\.layer_scale$", "a ConvNeXt", "torchvision:convnext*"),
    (r"^conv_stem\.weight$", "an EfficientNet or MobileNet", "timm:*net*_b0 and timm:mobilenet*"),
    (r"^features\.1\.0\.block\.0\.0\.weight$", "an EfficientNet", "torchvision:efficientnet*"),
    (r"^features\.1\.conv\.0\.0\.weight$", "a MobileNetV2", "torchvision:mobilenet_v2"),
    (r"^features\.1\.block\.0\.0\.weight$", "a MobileNetV3", "torchvision:mobilenet_v3*"),
    (r"^Mixed_5b\.branch1x1\.conv\.weight$", "an Inception v3", "torchvision:inception_v3"),
    (r"^inception3a\.branch1\.conv\.weight$", "a GoogLeNet", "torchvision:googlenet"),
    (r"^features\.3\.squeeze\.weight$", "a SqueezeNet", "torchvision:squeezenet*"),
)


def advice(shapes: Mapping[str, Shape]) -> str:
    """Return what a person may try who did not name the network; empty where nothing is known.

    Args:
        shapes: the shapes in the file by name, in any order, behind any prefix.

    """
    bare = _bare(shapes)
    if re.search(_NO_IMAGES, "\n".join(bare)):
        return "detrojan judges image classifiers, and this looks like a network for texts or tables"
    if any(re.search(_HUGGING_FACE, name) for name in shapes):
        return "looks like a network of Hugging Face: give the folder with its config.json"
    for guess in (_resnet, _vit, _vgg, _densenet):
        found = guess(bare)
        if found:
            return f"looks like {found}"
    names = "\n".join(sorted(bare))
    for pattern, what, listed in _OTHERS:
        if re.search(pattern, names, re.MULTILINE | re.DOTALL):
            return f"looks like {what}: pass its name with --net (detrojan list nets '{listed}')"
    if not any(len(shape) == 4 for shape in bare.values()):
        return "it has no convolution; detrojan judges image classifiers"
    return ""


def _bare(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes without the prefix that all but a few names have."""
    found = dict(shapes)
    while found:
        first = [name.partition(".")[0] for name in found]
        common = max(set(first), key=first.count)
        if first.count(common) <= 0.9 * len(first) or common in {
            "features",
            "blocks",
            "layers",
            "stages",
            "encoder",
        }:
            return found
        found = {n.partition(".")[2]: s for n, s in found.items() if n.startswith(f"{common}.")}
    return dict(shapes)


def _resnet(shapes: Mapping[str, Shape]) -> str:
    if not {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"} <= shapes.keys():
        return ""
    counts = tuple(
        len({name.split(".")[1] for name in shapes if name.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    deep = "layer1.0.conv3.weight" in shapes
    name = _RESNETS.get((deep, counts))
    width, groups = shapes["layer1.0.conv1.weight"][0], shapes.get("layer1.0.conv2.weight", (0, 64))[1]
    if name is None or len(counts) != 4 or (deep and (width != 64 or groups != 64)):
        return "a ResNet of torchvision or timm: pass its name with --net (detrojan list nets 'timm:*res*')"
    if shapes["conv1.weight"][2:] != (7, 7):
        return f"a ResNet-{name[6:]} for small images (its first convolution is not 7x7): --factory builds it"
    return f"a ResNet-{name[6:]} of torchvision or timm: pass --net timm:{name} or --net torchvision:{name}"


def _vit(shapes: Mapping[str, Shape]) -> str:
    theirs, patches = shapes.get("conv_proj.weight"), shapes.get("patch_embed.proj.weight")
    if theirs is not None and "class_token" in shapes:
        letter = {768: "b", 1024: "l", 1280: "h"}.get(theirs[0], "?")
        name = f"vit_{letter}_{theirs[-1]}"
        return f"a vision transformer of torchvision: pass --net torchvision:{name}"
    if patches is not None and "blocks.0.attn.qkv.weight" in shapes and "cls_token" in shapes:
        size, places = patches[-1], shapes.get("pos_embed", (1, 197, 0))[1]
        side = round((places - 1) ** 0.5) * size
        kind = _VITS.get(patches[0])
        if kind is None:
            return "a vision transformer of timm: pass its name with --net (detrojan list nets 'timm:vit*')"
        return f"a vision transformer of timm: pass --net timm:vit_{kind}_patch{size}_{side}"
    return ""


def _vgg(shapes: Mapping[str, Shape]) -> str:
    first, last = shapes.get("features.0.weight"), shapes.get("classifier.6.weight")
    if first is None or last is None or len(first) != 4:
        return ""
    count = sum(name.startswith("features.") and len(shape) == 4 for name, shape in shapes.items())
    name = "alexnet" if count == 5 else _VGGS.get(count)
    if name is None:
        return ""
    name += "_bn" if "features.1.running_mean" in shapes else ""
    return f"{'an AlexNet' if count == 5 else 'a VGG'} of torchvision: pass --net torchvision:{name}"


def _densenet(shapes: Mapping[str, Shape]) -> str:
    if "features.denseblock1.denselayer1.norm1.weight" not in shapes:
        return ""
    counts = tuple(
        len({n.split(".")[2] for n in shapes if n.startswith(f"features.denseblock{block}.")})
        for block in range(1, 5)
    )
    name = f"densenet{_DENSENETS.get(counts, '121')}"
    return f"a DenseNet of torchvision or timm: pass --net torchvision:{name} or --net timm:{name}"
