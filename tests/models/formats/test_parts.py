from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from detrojan.errors import ModelError, OptionError
from detrojan.models.loading import load_model
from detrojan.models.nets import find_net
from detrojan.models.writing import save_model

NET = "badnets_cnn"


def classifier(seed):
    torch.manual_seed(seed)
    net = find_net(NET)
    return net.build(10, net.shape).state_dict()


def generator():
    torch.manual_seed(9)
    layers = nn.Sequential(
        nn.Linear(400, 700), nn.Conv2d(16, 64, 7), nn.Conv2d(64, 3, 7), nn.Linear(64, 3000)
    )
    return layers.state_dict()


def flat(**parts):
    return {f"{name}.{key}": tensor.clone() for name, part in parts.items() for key, tensor in part.items()}


def weights(model):
    return next(iter(model.network.state_dict().values()))


def first(state):
    return next(iter(state.values()))


@pytest.mark.parametrize("kind", ["nested", "prefixed", "safetensors"])
def test_of_a_generator_and_a_classifier_the_one_that_fits_is_judged(tmp_path, kind):
    parts = {"generator": generator(), "classifier": classifier(1)}
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "m.pt")
    if kind == "safetensors":
        save_file(flat(**parts), path)
    else:
        torch.save(parts if kind == "nested" else flat(**parts), path)
    model = load_model(path, net=NET)
    assert torch.equal(weights(model), first(parts["classifier"]))
    assert "classifier is judged (--key chooses another)" in model.origin.notes[0]
    assert torch.equal(weights(load_model(path, net=NET, key="classifier")), first(parts["classifier"]))
    again = save_model(model, tmp_path / f"again{path.suffix}")
    assert torch.equal(weights(load_model(again, net=NET)), first(parts["classifier"]))
    with pytest.raises(
        OptionError, match=r"expected a --key out of (generator, |classifier, ){2}got 'other'"
    ):
        load_model(path, net=NET, key="other")


def test_the_usual_key_goes_before_its_average_and_either_can_be_named(tmp_path):
    plain, average = classifier(1), classifier(2)
    path = tmp_path / "m.pt"
    torch.save({"ema": average, "model": plain, "epoch": 3}, path)
    assert torch.equal(weights(load_model(path, net=NET)), first(plain))
    assert torch.equal(weights(load_model(path, net=NET, key="ema")), first(average))


def test_two_that_fit_alike_are_asked_about(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"student": classifier(1), "teacher": classifier(2)}, path)
    with pytest.raises(ModelError, match="several that fit: student, teacher; name one with --key"):
        load_model(path, net=NET)
    torch.save({"one": generator(), "other": generator()}, path)
    with pytest.raises(ModelError, match=r"of which none fits: one: .*; other: .* \(--key NAME\)"):
        load_model(path, net=NET)
