"""TorchScript and exported programs are loaded only where that is allowed, and written back as they came."""

import warnings

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

SHAPE = (3, 8, 8)


@pytest.fixture
def network():
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)]
    return nn.Sequential(*layers).eval()


@pytest.fixture(params=["traced", "scripted", "exported", "exported for one"])
def file(request, network, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if request.param.startswith("exported"):
            count = 1 if request.param.endswith("one") else 2
            sizes = ({0: torch.export.Dim("n")},) if count == 2 else None
            program = torch.export.export(network, (torch.rand(count, *SHAPE),), dynamic_shapes=sizes)
            with (tmp_path / "net.pt2").open("wb") as opened:
                torch.export.save(program, opened)
            return tmp_path / "net.pt2"
        traced = request.param == "traced"
        made = torch.jit.trace(network, torch.rand(2, *SHAPE)) if traced else torch.jit.script(network)
        made.save(str(tmp_path / "net.pt"))
        return tmp_path / "net.pt"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_program_is_loaded_with_the_flag_alone(file, network, images):
    with pytest.raises(
        UnsafeFileError, match=r"a program with its weights.*nothing was run.*export ONNX; if y"
    ):
        load_model(file, input_shape=SHAPE)
    shape = SHAPE if file.suffix == ".pt" else None
    if shape:
        with pytest.raises(ModelError, match="expected an input shape"):
            load_model(file, allow_unsafe=True)
    model = load_model(file, input_shape=shape, allow_unsafe=True)
    batch = images(3, *SHAPE)
    assert model.input_shape == SHAPE
    torch.testing.assert_close(model.all_logits(batch), network(batch).detach(), rtol=1e-5, atol=1e-5)
    model.logits(batch).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in list(model.network.parameters())[-2:])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_changed_program_is_written_as_it_came(file, images):
    model = load_model(file, input_shape=SHAPE, allow_unsafe=True)
    changed, batch = model.copy(), images(3, *SHAPE)
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.mul_(1.1)
    assert float((changed.all_logits(batch) - model.all_logits(batch)).abs().max()) > 0.01
    out = save_model(changed, file.with_stem("out"))
    again = load_model(out, input_shape=SHAPE, allow_unsafe=True)
    torch.testing.assert_close(again.all_logits(batch), changed.all_logits(batch), rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match=r"expected a path that ends in \.pt"):
        save_model(changed, file.with_name("out.onnx"))
