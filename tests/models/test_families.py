"""The advice for weights that nobody named: a family, other kinds of networks, or nothing."""

import re

import pytest
import torch
from torch import nn

from detrojan.errors import MissingExtraError, ModelError, OptionError
from detrojan.models.families import advice, library_guesses
from detrojan.models.library_nets import is_library
from detrojan.models.loading import load_model
from detrojan.models.matching import match_by_name, shapes_of
from detrojan.models.nets import NETS, find_net, is_net


class TextNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 8)
        self.lstm = nn.LSTM(8, 16)
        self.fc = nn.Linear(16, 2)


def _resnet(counts, first=7):
    """Return the shapes of a residual network without bottlenecks."""
    shapes = {"conv1.weight": (64, 3, first, first), "bn1.weight": (64,), "fc.weight": (10, 512)}
    for stage, count in enumerate(counts, 1):
        for block in range(count):
            shapes[f"layer{stage}.{block}.conv1.weight"] = (64, 64, 3, 3)
    return shapes


def _efficientnet(blocks, last=1280, **more):
    """Return names and shapes as efficientnet_pytorch has them."""
    shapes = {"_conv_stem.weight": (32, 3, 3, 3), **more}
    for block in range(blocks):
        for layer in ("_expand_conv", "_depthwise_conv", "_project_conv"):
            shapes[f"_blocks.{block}.{layer}.weight"] = (32, 1, 3, 3)
    return {**shapes, "_conv_head.weight": (last, 320, 1, 1), "_fc.weight": (1000, last)}


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (_efficientnet(16), r"an EfficientNet of .* pass --net timm:tf_efficientnet_lite0$"),
        (
            _efficientnet(23, 1408, **{"_blocks.0._se_reduce.weight": (8, 32, 1, 1)}),
            "pass --net timm:tf_efficientnet_b2$",
        ),
        (_efficientnet(21), r"pass its name with --net \(detrojan list nets 'timm:tf_efficientnet\*'\)"),
        (
            _resnet((2, 2, 2, 2)),
            r"a ResNet-18 of torchvision or timm: pass --net timm:resnet18 or --net torch",
        ),
        ({f"module.net.{key}": value for key, value in _resnet((3, 4, 6, 3)).items()}, r"a ResNet-34 of .*"),
        (_resnet((1, 1, 1, 1)), r"a ResNet of torchvision or timm: pass its name"),
        (_resnet((2, 2, 2, 2), 3), r"a ResNet-18 for small images .* --factory builds it"),
        (
            {"vit.embeddings.cls_token": (1, 1, 8), "vit.layers.0.weight": (8, 3, 4, 4)},
            "folder with its config.json",
        ),
        (shapes_of(TextNet()), "detrojan judges image classifiers, and this looks like a network for texts"),
        ({"bert.embeddings.word_embeddings.weight": (9, 9)}, "detrojan judges image classifiers"),
        (
            shapes_of(nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2))),
            "no convolution; detrojan judges",
        ),
        (shapes_of(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(5, 2))), "^$"),
        ({}, "detrojan judges image classifiers"),
    ],
)
def test_what_the_names_tell(shapes, text):
    assert re.search(text, advice(shapes))


def test_a_guess_that_may_be_loaded_names_what_computes_the_same():
    assert library_guesses(_resnet((2, 2, 2, 2))) == ("timm:resnet18", "torchvision:resnet18")
    assert library_guesses(_resnet((2, 2, 2, 2), 3)) == library_guesses(_resnet((1, 1, 1, 1))) == ()
    assert library_guesses(_efficientnet(16)) == ()
    vit = {"patch_embed.proj.weight": (192, 3, 16, 16), "blocks.0.attn.qkv.weight": (576, 192)}
    assert library_guesses({**vit, "cls_token": (1, 1, 192)}) == ()


@pytest.mark.parametrize("name", NETS)
def test_our_own_networks_are_taken_for_nobody_elses(name):
    net = NETS[name]
    assert "--net" not in advice(shapes_of(net.build(5, net.shape)))


def test_the_error_says_it(tmp_path):
    torch.save(TextNet().state_dict(), tmp_path / "text.pt")
    with pytest.raises(ModelError, match=r"detrojan judges image classifiers, and this looks like .* texts"):
        load_model(tmp_path / "text.pt")
    torch.save(
        {key: torch.zeros(shape) for key, shape in _resnet((2, 2, 2, 2)).items()}, tmp_path / "resnet.pt"
    )
    with pytest.raises(ModelError, match=r"got 11 tensors .*: looks like a ResNet-18 .* --net timm:resnet18"):
        load_model(tmp_path / "resnet.pt")


def test_a_librarys_network_is_told_by_its_prefix():
    assert is_library("timm:resnet18")
    assert is_net("torchvision:resnet18")
    assert not is_library("timm")
    assert not is_net("my.package:make")
    with pytest.raises(OptionError, match=r"preact_resnet18, timm:NAME, torchvision:NAME, got 'resnet18'"):
        find_net("resnet18")


def test_a_missing_library_is_named_with_its_command(monkeypatch, tmp_path):
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "torchvision", None)
    torch.save(_built(), tmp_path / "in.pt")
    with pytest.raises(MissingExtraError, match=r'networks of timm need; .*pip install "detrojan\[timm\]"'):
        load_model(tmp_path / "in.pt", net="timm:resnet18")


def _built():
    return NETS["mnist_cnn"].build(4, (1, 28, 28)).state_dict()


def test_tensors_are_paired_by_name_behind_any_prefix():
    wanted = {"a.weight": (2, 3), "b.weight": (2, 3), "b.running_var": (2,)}
    found = {f"net.{key}": value for key, value in reversed(wanted.items())}
    found |= {"net.b.num_batches_tracked": (), "loss.weight": (9,)}
    keys, wrong = match_by_name(wanted, found)
    assert wrong == []
    assert keys == {key: f"net.{key}" for key in (*wanted, "b.num_batches_tracked")}
    keys, wrong = match_by_name(wanted, found | {"net.c": (1,), "net.a.weight": (3, 2)})
    assert wrong == ["expected a.weight (2, 3), got net.a.weight (3, 2)", "expected no net.c, got (1,)"]
    keys, wrong = match_by_name(wanted, {"a.weight": (2, 3)})
    assert wrong == ["expected b.weight (2, 3), got nothing", "expected b.running_var (2,), got nothing"]
