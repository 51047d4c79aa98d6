"""Tells from the names in a file which family of networks its weights are of, for the advice in errors.

Nothing is loaded by such a guess: a person has to say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

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
#: number of blocks and last width of an EfficientNet, and what it is called
_EFFICIENTNETS: dict[tuple[int, int], str] = {
    (16, 1280): "0",
    (23, 1280): "1",
    (23, 1408): "2",
    (26, 1536): "3",
    (32, 1792): "4",
    (39, 2048): "5",
    (45, 2304): "6",
    (55, 2560): "7",
}
#: the same for those without squeeze and excitation; 1 and 2 differ in their images alone
_LITES: dict[tuple[int, int], str] = {(16, 1280): "0", (24, 1280): "3", (30, 1280): "4"}
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


@dataclass(frozen=True)
class _Guess:
    """A family of networks.

    Attributes:
        what: what people call it, with its article.
        names: networks of libraries with the same tensors, by the names that `--net` takes.
        sure: whether all of these compute the same, and no other network has these tensors usually.
        hint: what to do about it, where no name is known.

    """

    what: str
    names: tuple[str, ...] = ()
    sure: bool = True
    hint: str = ""

    def __str__(self) -> str:
        """Return what it is, and what to do about it."""
        passed = " or ".join(f"--net {name}" for name in self.names)
        return f"{self.what}: {self.hint or f'pass {passed}'}"


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
    found = _guess(bare)
    if found is not None:
        return f"looks like {found}"
    if not any(len(shape) == 4 for shape in bare.values()):
        return "it has no convolution; detrojan judges image classifiers"
    return ""


def library_guesses(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Return the networks of libraries that tensors are clearly of; they all compute the same.

    Args:
        shapes: the shapes in the file by name, in any order, behind any prefix.

    Returns:
        Names that `--net` takes; none where nothing is known, or several networks have such tensors.

    """
    found = _guess(_bare(shapes))
    return found.names if found is not None and found.sure else ()


def _guess(bare: Mapping[str, Shape]) -> _Guess | None:
    for guess in (_resnet, _vit, _vgg, _densenet, _efficientnet):
        found = guess(bare)
        if found:
            return found
    names = "\n".join(sorted(bare))
    for pattern, what, listed in _OTHERS:
        if re.search(pattern, names, re.MULTILINE | re.DOTALL):
            return _named(what, listed)
    return None


def _named(what: str, listed: str) -> _Guess:
    if "*" in listed:
        return _Guess(what, hint=f"pass its name with --net (detrojan list nets '{listed}')")
    return _Guess(what, (listed,))


def _bare(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes without the prefix that all but a few names have."""
    found = dict(shapes)
    while found:
        first = [name.partition(".")[0] for name in found]
        common = max(set(first), key=first.count)
        if first.count(common) <= 0.9 * len(first) or common in {
            "features",
            "blocks",
            "_blocks",
            "layers",
            "stages",
            "encoder",
        }:
            return found
        found = {n.partition(".")[2]: s for n, s in found.items() if n.startswith(f"{common}.")}
    return dict(shapes)


def _resnet(shapes: Mapping[str, Shape]) -> _Guess | None:
    if not {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"} <= shapes.keys():
        return None
    counts = tuple(_count(shapes, f"layer{stage}.", 1) for stage in range(1, 5))
    deep = "layer1.0.conv3.weight" in shapes
    name = _RESNETS.get((deep, counts))
    width, groups = shapes["layer1.0.conv1.weight"][0], shapes.get("layer1.0.conv2.weight", (0, 64))[1]
    if name is None or len(counts) != 4 or (deep and (width != 64 or groups != 64)):
        return _named("a ResNet of torchvision or timm", "timm:*res*")
    if shapes["conv1.weight"][2:] != (7, 7):
        what = f"a ResNet-{name[6:]} for small images (its first convolution is not 7x7)"
        return _Guess(what, hint="--factory builds it")
    what = f"a ResNet-{name[6:]} of torchvision or timm"
    return _Guess(what, (f"timm:{name}", f"torchvision:{name}"))


def _vit(shapes: Mapping[str, Shape]) -> _Guess | None:
    theirs, patches = shapes.get("conv_proj.weight"), shapes.get("patch_embed.proj.weight")
    if theirs is not None and "class_token" in shapes:
        letter = {768: "b", 1024: "l", 1280: "h"}.get(theirs[0], "?")
        name = f"torchvision:vit_{letter}_{theirs[-1]}"
        return _Guess("a vision transformer of torchvision", (name,))
    if patches is not None and "blocks.0.attn.qkv.weight" in shapes and "cls_token" in shapes:
        what = "a vision transformer of timm"
        size, places = patches[-1], shapes.get("pos_embed", (1, 197, 0))[1]
        side = round((places - 1) ** 0.5) * size
        kind = _VITS.get(patches[0])
        if kind is None:
            return _named(what, "timm:vit*")
        return _Guess(what, (f"timm:vit_{kind}_patch{size}_{side}",), sure=False)
    return None


def _vgg(shapes: Mapping[str, Shape]) -> _Guess | None:
    first, last = shapes.get("features.0.weight"), shapes.get("classifier.6.weight")
    if first is None or last is None or len(first) != 4:
        return None
    count = sum(name.startswith("features.") and len(shape) == 4 for name, shape in shapes.items())
    name = "alexnet" if count == 5 else _VGGS.get(count)
    if name is None:
        return None
    name += "_bn" if "features.1.running_mean" in shapes else ""
    what = f"{'an AlexNet' if count == 5 else 'a VGG'} of torchvision"
    return _Guess(what, (f"torchvision:{name}",))


def _densenet(shapes: Mapping[str, Shape]) -> _Guess | None:
    if "features.denseblock1.denselayer1.norm1.weight" not in shapes:
        return None
    counts = tuple(_count(shapes, f"features.denseblock{block}.", 2) for block in range(1, 5))
    name = f"densenet{_DENSENETS.get(counts, '121')}"
    return _Guess("a DenseNet of torchvision or timm", (f"torchvision:{name}", f"timm:{name}"))


def _efficientnet(shapes: Mapping[str, Shape]) -> _Guess | None:
    """Tell the EfficientNets of `efficientnet_pytorch` and its kin, which timm has under other names."""
    last = shapes.get("_conv_head.weight")
    if last is None or "_blocks.0._depthwise_conv.weight" not in shapes or "_fc.weight" not in shapes:
        return None
    squeezed = "_blocks.0._se_reduce.weight" in shapes
    number = (_EFFICIENTNETS if squeezed else _LITES).get((_count(shapes, "_blocks.", 1), last[0]))
    what = "an EfficientNet of efficientnet_pytorch, which timm has too"
    if number is None:
        return _named(what, "timm:tf_efficientnet*")
    return _Guess(what, (f"timm:tf_efficientnet_{'b' if squeezed else 'lite'}{number}",), sure=False)


def _count(shapes: Mapping[str, Shape], prefix: str, place: int) -> int:
    """Return how many different parts there are at a place of the names that begin so."""
    return len({name.split(".")[place] for name in shapes if name.startswith(prefix)})
