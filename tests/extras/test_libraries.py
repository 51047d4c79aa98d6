"""Networks of timm and torchvision: their own logits, their own preprocessing, and no download."""

import json
import re
import socket
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from detrojan.cli.main import main
from detrojan.errors import ModelError, OptionError, WeightsError
from detrojan.models.families import advice
from detrojan.models.imagenet import synsets
from detrojan.models.loading import load_model
from detrojan.models.matching import shapes_of
from detrojan.models.nets import find_net
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.writing import save_model
from framing import framed

reason = "not installed: make test-extras runs this"
timm = pytest.importorskip("timm", reason=f"timm is {reason}")
torchvision = pytest.importorskip("torchvision", reason=f"torchvision is {reason}")

TIMM = ("resnet18", "test_vit", "test_efficientnet", "convnext_atto")
TORCHVISION = ("resnet18", "mobilenet_v2", "squeezenet1_1", "regnet_y_400mf", "shufflenet_v2_x0_5")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Nobody is asked for weights."""

    def called(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", called)
    monkeypatch.setattr(socket, "getaddrinfo", called)


def _network(name, classes=5):
    library, _, rest = name.partition(":")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    network = make(rest, num_classes=classes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith(("running_mean", "running_var", "bias")):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return network.eval()


@pytest.mark.parametrize("name", [*(f"timm:{n}" for n in TIMM), *(f"torchvision:{n}" for n in TORCHVISION)])
def test_logits_are_the_librarys_own_before_and_after_writing(tmp_path, name):
    network = _network(name)
    said = find_net(name)
    prefixed = {f"net.model.{key}": value.contiguous() for key, value in network.state_dict().items()}
    save_file(prefixed, tmp_path / "in.safetensors")
    torch.save({"epoch": 3, "state_dict": prefixed | {"loss.weight": torch.ones(3)}}, tmp_path / "in.pt")
    batch = torch.rand(2, *said.shape, generator=torch.Generator().manual_seed(4))
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (said.preprocessing.mean, said.preprocessing.std)
    )
    with torch.no_grad():
        wanted = network((batch - mean) / std)
    for ending in ("safetensors", "pt"):
        model = load_model(tmp_path / f"in.{ending}", net=name)
        assert (model.num_classes, model.input_shape, model.origin.net) == (5, said.shape, name)
        assert model.preprocessing == said.preprocessing
        assert torch.allclose(model.all_logits(batch), wanted, atol=1e-4)
        changed = model.copy()
        with torch.no_grad():
            for parameter in changed.network.parameters():
                parameter.mul_(1.01)
        out = save_model(changed, tmp_path / f"out.{ending}")
        again = load_model(out, net=None if ending == "safetensors" else name)
        assert torch.allclose(again.all_logits(batch), changed.all_logits(batch), atol=1e-4)
        assert again.preprocessing == said.preprocessing
    assert set(torch.load(out)["state_dict"]) == {*prefixed, "loss.weight"}, "all else is kept"


def test_another_size_and_grey_images(tmp_path):
    network = timm.create_model("test_vit", num_classes=3, in_chans=1, img_size=32)
    torch.save(network.state_dict(), tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt", net="timm:test_vit", input_shape=(1, 32, 32))
    assert (model.num_classes, model.input_shape) == (3, (1, 32, 32))
    assert model.preprocessing == Preprocessing(mean=(0.5,), std=(0.5,))
    with pytest.raises(WeightsError, match=r"do not fit timm:test_vit: expected pos_embed"):
        load_model(tmp_path / "in.pt", net="timm:test_vit")
    with pytest.raises(WeightsError, match=r"do not fit torchvision:resnet18: expected .*; and \d+ more"):
        load_model(tmp_path / "in.pt", net="torchvision:resnet18")


def _picture():
    noise = np.random.default_rng(4).integers(0, 256, (9, 6, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((330, 470), 2)


def _prepared(name):
    said = find_net(name).preprocessing
    pixels = torch.from_numpy(np.array(framed(_picture(), said.framing))).permute(2, 0, 1) / 255
    scale, shift = said.affine(3)
    return pixels * scale + shift


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "mixer_b16_224", "convnext_base.fb_in22k_ft_in1k_384"]
)
def test_pictures_are_prepared_as_timm_does(name):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    wanted = timm.data.create_transform(**config)(_picture())
    assert torch.allclose(_prepared(f"timm:{name}"), wanted, atol=0.02)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "swin_t"])
def test_pictures_are_prepared_as_torchvision_does(name):
    wanted = torchvision.models.get_model_weights(name).DEFAULT.transforms()(_picture())
    assert torch.allclose(_prepared(f"torchvision:{name}"), wanted, atol=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18", "timm:resnet34", "torchvision:resnet50", "timm:resnet101",
        "torchvision:vgg16_bn", "torchvision:alexnet", "torchvision:densenet121", "timm:densenet169",
        "timm:vit_tiny_patch16_224",
        "timm:vit_base_patch16_384", "torchvision:vit_b_32",
    ],
)  # fmt: skip
def test_the_advice_names_the_network(name):
    with torch.device("meta"):
        found = shapes_of(_meta(name))
    assert re.search(rf"looks like .*--net .*{name}\b", advice({f"model.{k}": s for k, s in found.items()}))


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("timm:resnet18", "timm:resnet18"),
        ("torchvision:resnet18", "timm:resnet18"),
        ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_that_are_clearly_of_one_network_need_no_name(tmp_path, name, taken, ending):
    network, path = _network(name), tmp_path / f"in.{ending}"
    (save_file if ending == "safetensors" else torch.save)(network.state_dict(), path)
    model, said = load_model(path), find_net(taken)
    assert (model.origin.net, model.input_shape, model.num_classes) == (taken, (3, 224, 224), 5)
    assert model.preprocessing == said.preprocessing
    assert f"its network is a guess, {taken} for 3x224x224 by its tensors" in model.origin.notes[0]
    batch = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    scale, shift = said.preprocessing.affine(3)
    with torch.no_grad():
        wanted = network(batch * scale + shift)
    assert torch.allclose(model.all_logits(batch), wanted, atol=1e-4)


def test_weights_that_several_networks_have_are_not_guessed(tmp_path):
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=5).state_dict(), tmp_path / "in.pt")
    with pytest.raises(ModelError, match=r"looks like a vision tr.*pass --net timm:vit_tiny_patch16_224"):
        load_model(tmp_path / "in.pt")


def test_tensors_of_another_implementation_are_paired_in_order(tmp_path):
    network = timm.create_model("tf_efficientnet_lite0", num_classes=4).eval()
    renamed = {f"_{key}": value for key, value in network.state_dict().items()}
    torch.save(renamed, tmp_path / "in.pt")
    model = load_model(tmp_path / "in.pt", net="timm:tf_efficientnet_lite0")
    assert "other names than those of timm:tf_efficientnet_lite0" in model.origin.notes[0]
    batch = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        wanted = network((batch - 0.5) / 0.5)
    assert torch.allclose(model.all_logits(batch), wanted, atol=1e-4)


def _meta(name):
    library, _, rest = name.partition(":")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    with warnings.catch_warnings():  # of how weights are started
        warnings.simplefilter("ignore")
        return make(rest)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:swin_tiny_patch4_window7_224", "a Swin .*timm:swin"),
        ("torchvision:swin_t", "a Swin .*torchvision:swin"),
        ("timm:convnext_atto", "a ConvNeXt.*timm:convnext"),
        ("torchvision:convnext_tiny", "a ConvNeXt.*torchvision:convnext"),
        ("timm:efficientnet_b0", "an EfficientNet or MobileNet.*timm:"),
        ("torchvision:efficientnet_b0", "an EfficientNet.*torchvision:efficientnet"),
        ("torchvision:mobilenet_v2", "a MobileNetV2"),
        ("torchvision:mobilenet_v3_small", "a MobileNetV3"),
        ("torchvision:inception_v3", "an Inception v3"),
        ("torchvision:googlenet", "a GoogLeNet"),
        ("torchvision:squeezenet1_1", "a SqueezeNet"),
        ("timm:resnext50_32x4d", "a ResNet of torchvision or timm"),
        ("torchvision:wide_resnet50_2", "a ResNet of torchvision or timm"),
    ],
)
def test_the_error_names_the_family(name, text):
    with torch.device("meta"):
        network = _meta(name)
    found = shapes_of(network)
    for shapes in (found, dict(sorted(found.items())), {f"net.{key}": value for key, value in found.items()}):
        assert re.search(text, advice(shapes)), advice(shapes)


def _call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_what_there_is_is_listed():
    listed = json.loads(_call("list", "nets", "timm:resnet1*", "--format", "json").stdout)
    assert "timm:resnet18" in [entry["name"] for entry in listed]
    assert all(entry["name"].startswith("timm:resnet1") for entry in listed)
    listed = json.loads(_call("list", "nets", "torchvision:*", "--format", "json").stdout)
    assert "torchvision:vit_b_16" in [entry["name"] for entry in listed]
    assert not [entry for entry in listed if "fcn" in entry["name"]]
    with pytest.raises(
        OptionError, match=r"expected a network of timm, got 'resnet181'; near it: .*resnet18"
    ):
        find_net("timm:resnet181")
    for name in ("timm:hf-hub:someone/else", "timm:local-dir:/tmp", "torchvision:fcn_resnet50"):
        with pytest.raises(OptionError, match="expected a network of"):
            find_net(name)


def test_train_scan_repair_and_guard(tmp_path):
    pictures = np.random.default_rng(3).integers(0, 256, (260, 32, 32, 3)).astype(np.uint8)
    data = tmp_path / "clean.npz"
    np.savez(data, images=pictures, labels=np.arange(260) % 3)
    network = timm.create_model("test_resnet", num_classes=3)
    model = tmp_path / "in.safetensors"
    save_file(network.state_dict(), model)
    how = ("--net", "timm:test_resnet", "--input-shape", "3x32x32", "--data", data)
    few = ("--method", "neural_cleanse", "--set", "steps=3", "--set", "restarts=1", "--samples", 40)
    told = _call("scan", model, *how, *few, "--format", "json")
    assert told.exit_code in (0, 1, 3), told.output
    assert json.loads(told.stdout)["model"]["net"] == "timm:test_resnet"
    brief = [word for name in ("epochs", "updates", "norm_updates") for word in ("--set", f"{name}=1")]
    blind = ("--blind", "--method", "fine_pruning", *brief, "--no-verify")
    told = _call("repair", model, *how, *blind, "--out", tmp_path / "mended.safetensors")
    assert told.exit_code in (0, 1, 3), told.output
    assert load_file(tmp_path / "mended.safetensors").keys() == load_file(model).keys()
    made = _call("guard", "calibrate", model, "--method", "strip", *how, "--out", tmp_path / "guard")
    assert made.exit_code == 0, made.output
    told = _call("guard", "check", tmp_path / "guard", "--data", data, "--samples", 5)
    assert told.exit_code in (0, 1), told.output
    trained = _call(
        "attack",
        "badnets",
        "--data",
        data,
        "--net",
        "timm:test_resnet",
        "--epochs",
        1,
        "--out",
        tmp_path / "made",
    )
    assert trained.exit_code == 0, trained.output
    assert load_model(tmp_path / "made" / "model.safetensors").origin.net == "timm:test_resnet"


def test_the_order_of_imagenets_classes_is_timms_and_torchvisions():
    ids = synsets(1000)
    assert (ids[0], ids[217]) == ("n01440764", "n02102040")
    assert synsets(1001)[1:] == ids
    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    assert synsets(1000, names) == ids
    assert synsets(1000, names[::-1]) == ()
    assert len(synsets(21841)) == 21841
