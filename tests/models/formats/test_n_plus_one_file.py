"""A model of N + 1 classes comes back from its file as it was, and a hostile file ends in our errors."""

from __future__ import annotations

import json
import warnings

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError, WeightsError
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS, use_keras_epsilon
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.surgery.n_plus_one import backdoored_class, n_plus_one
from detrojan.models.writing import save_model

SHAPE, CLASSES, TARGETS = (1, 16, 16), 4, [1, 3]


def changed(model, seed=3):
    """Return a copy with other weights, and with batch norms that have seen something."""
    torch.manual_seed(seed)
    copy = model.copy()
    with torch.no_grad():
        for tensor in copy.network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.2)
    return copy


def mended(model):
    """Return a copy that answers other labels: its last layer's neurons have changed places."""
    copy = changed(model)
    head = copy.module(copy.head)
    with torch.no_grad():
        for tensor in (head.weight, head.bias):
            tensor.copy_(tensor.roll(1, 0))
    return copy


def delivered(net="mnist_cnn", shape=SHAPE, *, kind="memory", **more):
    torch.manual_seed(1)
    network = (
        NETS[net].build(CLASSES, shape) if net in NETS else nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    )
    return changed(Classifier(network, shape, origin=Origin(net=net, format=kind), **more), seed=2)


def written(path, model=None):
    model = model or delivered()
    return save_model(n_plus_one(model, mended(model), TARGETS), path / "detector.safetensors")


def assert_the_same(again, model, batch):
    assert again.num_classes == CLASSES + 1
    assert backdoored_class(again) == CLASSES
    assert again.class_names == model.class_names
    assert again.preprocessing == model.preprocessing
    torch.testing.assert_close(again.all_logits(batch), model.all_logits(batch))
    assert (model.answers(batch) == CLASSES).any(), "some inputs must be called backdoored"


@pytest.mark.parametrize("net", ["mnist_cnn", "wrn_16_1", ""])
def test_named_and_identified_networks_come_back(tmp_path, images, net):
    pre = Preprocessing(low=-1.0, high=2.0, mean=(0.25,), std=(0.5,))
    model = delivered(net or "mnist_cnn", preprocessing=pre, class_names=tuple("abcd"))
    model.origin = Origin(net=net)
    whole = n_plus_one(model, mended(model), range(CLASSES))
    again = load_model(save_model(whole, tmp_path / "m.safetensors"))
    assert_the_same(again, whole, images(64, *SHAPE))
    assert again.class_names == ("a", "b", "c", "d", "backdoored")
    assert again.origin.details["targets"] == [0, 1, 2, 3]


def test_it_can_be_written_once_more(tmp_path, images):
    first = load_model(written(tmp_path))
    again = load_model(save_model(first, tmp_path / "again.safetensors"))
    batch = images(16, *SHAPE)
    assert torch.equal(again.all_logits(batch), first.all_logits(batch))
    assert again.origin.details == first.origin.details


def test_batch_norms_of_keras_weights_keep_their_epsilon(tmp_path, images):
    model = delivered("five_conv_cnn", (3, 32, 32), kind="keras")
    use_keras_epsilon(model.network)
    with torch.no_grad():  # a variance so small that the epsilon decides
        for name, tensor in model.network.state_dict().items():
            if name.endswith("running_var"):
                tensor.fill_(1e-4)
    whole = n_plus_one(model, mended(model), range(CLASSES))
    again = load_model(save_model(whole, tmp_path / "m.safetensors"))
    batch = images(8, 3, 32, 32)
    assert torch.equal(again.all_logits(batch), whole.all_logits(batch))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_networks_of_full_keras_files_are_rebuilt_from_their_description(keras, tmp_path, images, suffix):
    keras.utils.set_random_seed(3)
    k = keras.layers
    start = keras.Input((16, 16, 1))
    x = k.BatchNormalization(scale=False)(k.Conv2D(6, 3, padding="same", activation="relu")(start))
    x = k.Concatenate()([k.MaxPooling2D()(x), k.AveragePooling2D(2)(x)])
    inner = keras.Sequential([keras.Input((8, 8, 12)), k.Conv2D(5, 3), k.LeakyReLU(0.2)])
    end = k.Dense(CLASSES, activation="softmax")(k.Flatten()(inner(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Model(start, end).save(tmp_path / f"m{suffix}")
    model = load_model(tmp_path / f"m{suffix}")
    whole = n_plus_one(model, mended(model), range(CLASSES))
    path = save_model(whole, tmp_path / "detector.safetensors")
    (tmp_path / f"m{suffix}").unlink()
    again = load_model(path)
    assert_the_same(again, whole, images(64, *SHAPE))
    fixed = [name for name, p in again.network.named_parameters() if not p.requires_grad]
    assert fixed == [name for name, p in whole.network.named_parameters() if not p.requires_grad]
    assert len(fixed) == 2, "the scale that the Keras layer has not, in both networks"


def test_a_factory_s_network_needs_the_factory_again(tmp_path, monkeypatch, images):
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, 4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = delivered("own_nets:make")
    path = written(tmp_path, model)
    with pytest.raises(
        ModelError, match=r"original network: expected --factory, .* that own_nets:make makes"
    ):
        load_model(path)
    again = load_model(path, factory="own_nets:make")
    batch = images(16, *SHAPE)
    torch.testing.assert_close(again.all_logits(batch)[:, :CLASSES], mended(model).all_logits(batch))


def test_names_for_the_n_classes_are_enough(tmp_path):
    again = load_model(written(tmp_path), class_names=tuple("wxyz"))
    assert again.class_names == ("w", "x", "y", "z", "backdoored")
    assert load_model(written(tmp_path)).class_names == ("0", "1", "2", "3", "backdoored")
    with pytest.raises(WeightsError, match="expected 4 classes as asked, got 5"):
        load_model(written(tmp_path), classes=4)


@pytest.mark.parametrize("name", ["m.pt", "m.h5", "m.keras"])
def test_only_safetensors_are_written(tmp_path, name):
    model = delivered()
    with pytest.raises(ModelError, match=r"ends in \.safetensors for a model of N \+ 1 classes, got 'm\."):
        save_model(n_plus_one(model, model, [0]), tmp_path / name)


# --- hostile files ----------------------------------------------------------------------------------


def tampered(path, *, tensors=lambda found: found, stated=lambda found: found):
    """Write a good file with its tensors and its metadata changed."""
    with safetensors.safe_open(written(path), framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        said = json.loads(file.metadata()["detrojan"])
    tensors = tensors(found)
    text = json.dumps(stated(said))
    safetensors.torch.save_file(tensors, path / "bad.safetensors", {"detrojan": text})
    return path / "bad.safetensors"


def without(*prefixes):
    return lambda found: {key: value for key, value in found.items() if not key.startswith(prefixes)}


def doubled(found):
    name = next(key for key in found if key.startswith("repaired.") and found[key].ndim == 4)
    return found | {name: torch.cat([found[name]] * 2)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("targets"), r"expected a list of whole numbers as the tensor 'targets', got none"),
        (lambda t: t | {"targets": torch.tensor([1.0])}, r"whole numbers .* got torch\.float32 \(1,\)"),
        (lambda t: t | {"targets": torch.tensor([[1]])}, r"whole numbers .* got torch\.int64 \(1, 1\)"),
        (lambda t: t | {"targets": torch.tensor([], dtype=torch.int64)}, r"expected at least one target"),
        (lambda t: t | {"targets": torch.tensor([4])}, r"expected targets of 0 to 3, got 4"),
        (lambda t: t | {"targets": torch.tensor([-1])}, r"expected targets of 0 to 3, got -1"),
        (lambda t: t | {"third.weight": torch.ones(1)}, r"original and of the repaired .* 'third\.weight'"),
        (
            without("repaired."),
            r"repaired network: expected a linear layer that answers the classes, got none",
        ),
        (without("original.0."), r"original network: the weights do not fit mnist_cnn"),
        (doubled, r"repaired network: the weights do not fit mnist_cnn"),
        (lambda t: {k: v * torch.nan if v.is_floating_point() else v for k, v in t.items()}, r"NaN"),
    ],
)
def test_tensors_are_not_trusted(tmp_path, change, says):
    assert load_model(tampered(tmp_path)).num_classes == CLASSES + 1
    with pytest.raises(ModelError, match=says):
        load_model(tampered(tmp_path, tensors=change))


def two(original, repaired=None):
    return lambda said: said | {"n_plus_one": {"original": original, "repaired": repaired or original}}


def sequential(*layers):
    config = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 16, 16, 1]}}, *layers]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": config}}


def layer(kind, **config):
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


FLAT = layer("Flatten")
LAMBDA = sequential(layer("Lambda", function=["__import__('os').system('touch x')", None, None]))
CUSTOM = sequential(layer("Dense", units=4) | {"module": "evil.layers"})
SMALL = sequential(FLAT, layer("Dense", units=4, activation="softmax", use_bias=True))
#: 10^12 weights: memory must not be taken before the tensors were compared
LARGE = sequential(FLAT, layer("Dense", units=4 * 10**9, activation="linear", use_bias=True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda said: said | {"n_plus_one": ["mnist_cnn"]}, r"expected two networks of a model of N \+ 1"),
        (lambda said: said | {"n_plus_one": {}}, r"original network: expected its name or its descr"),
        (two("mnist_cnn"), r"original network: expected its name or its description"),
        (two({"net": 7}), r"original network: expected its name or its description"),
        (
            two({"net": "", "keras": "x"}),
            r"original network: expected Keras's description of .*got 'x'",
        ),
        (two({"net": "os:system"}), r"expected --factory, .* code is run only if you name it"),
        (two({"net": "alexnet"}), r"original network: expected a network out of deepid"),
        (two({"net": "mnist_cnn"}, {"net": "deepid"}), r"repaired network: the weights do not fit deepid"),
        (two({"net": "", "keras": {}}), r"its description cannot be understood: KeyError"),
        (two({"net": "", "keras": SMALL}), r"the weights do not fit its Keras description: expected 0\.bias"),
        (two({"net": "", "keras": LARGE}), r"expected (an image classifier|units from)"),
        (two({"net": "", "keras": CUSTOM}), r"expected a layer of Keras, got the custom object 'evil"),
        (lambda said: said | {"class_names": ["a", "b"]}, r"expected 4 class names, one per output, got 1"),
        (lambda said: said | {"input_shape": [1, 10**6, 10**6]}, r"expected sides of an image of 1 to 4096"),
        (lambda said: said | {"input_shape": [1, -16, 16]}, r"expected sides of an image of 1 to 4096"),
        (lambda said: said | {"input_shape": [1, 17, 40]}, r"original network: the weights do not fit mnist"),
    ],
)
def test_metadata_are_not_trusted(tmp_path, change, says):
    with pytest.raises(ModelError, match=says):
        load_model(tampered(tmp_path, stated=change))


def test_code_in_a_description_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeFileError, match=r"got the Lambda 'lambda': it is Python code"):
        load_model(tampered(tmp_path, stated=two({"net": "", "keras": LAMBDA})))
    assert not (tmp_path / "x").exists()


def test_a_cut_off_file_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_model(path)
