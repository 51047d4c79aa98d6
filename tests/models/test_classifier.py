"""The classifier: preprocessing, modes, layers, and what it refuses."""

import pytest
import torch
from torch import nn

from detrojan.errors import DataError, ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import NETS
from detrojan.models.preprocessing import Preprocessing


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier(NETS["sign_cnn"].build(5, (3, 32, 32)), (3, 32, 32))


def test_judging_restores_every_mode_and_every_grad(model):
    model.network.train()
    model.network[2].eval()
    model.network[0].weight.requires_grad_(False)
    modes = [m.training for m in model.network.modules()]
    grads = [p.requires_grad for p in model.network.parameters()]
    with model.judging() as network:
        assert not any(m.training for m in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
    assert [m.training for m in model.network.modules()] == modes
    assert [p.requires_grad for p in model.network.parameters()] == grads


def test_judging_restores_after_an_error(model):
    model.network.train()
    with pytest.raises(KeyError), model.judging():
        raise KeyError
    assert all(m.training for m in model.network.modules())
    assert all(p.requires_grad for p in model.network.parameters())


def test_asking_leaves_batch_norm_and_dropout_alone(model, images):
    model.network.train()
    before = {n: t.clone() for n, t in model.network.state_dict().items()}
    first, second = model.answers(images(9, 3, 32, 32)), model.all_logits(images(4, 3, 32, 32), batch=3)
    assert all(torch.equal(before[n], t) for n, t in model.network.state_dict().items())
    assert first.shape == (9,)
    assert second.shape == (4, 5)


def test_batches_do_not_change_the_answer(model, images):
    batch = images(7, 3, 32, 32)
    torch.testing.assert_close(model.all_logits(batch, batch=2), model.all_logits(batch))
    torch.testing.assert_close(model.probabilities(batch).sum(1), torch.ones(7))


def test_preprocessing_reaches_the_network():
    seen = {}

    class Spy(nn.Module):
        def forward(self, images):
            seen["x"] = images
            return images.flatten(1)[:, :2]

    pre = Preprocessing(low=0, high=255, mean=(100.0, 0.0, 50.0), std=(2.0, 1.0, 5.0), layout="NHWC")
    model = Classifier(Spy(), (3, 4, 5), preprocessing=pre)
    model.logits(torch.full((1, 3, 4, 5), 0.4))
    assert seen["x"].shape == (1, 4, 5, 3)
    torch.testing.assert_close(seen["x"][0, 0, 0], torch.tensor([1.0, 102.0, 10.4]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"low": 1.0, "high": 1.0}, r"expected an input range low < high, got 1 to 1"),
        ({"std": (0.0,)}, r"expected standard deviations above 0"),
        ({"mean": (0.1, 0.2)}, r"expected 1 or 3 values of mean, got 2"),
    ],
)
def test_impossible_preprocessing(options, text):
    with pytest.raises(ModelError, match=text):
        Classifier(NETS["deepid"].build(3, (3, 55, 47)), (3, 55, 47), preprocessing=Preprocessing(**options))


def test_images_of_another_shape_are_refused(model, images):
    with pytest.raises(DataError, match=r"expected colour images 32 high x 32 wide x 3 .*got 28 x 28 x 1"):
        model.answers(images(2, 1, 28, 28))


def test_wrong_input_shape_and_wrong_names_are_refused():
    network = NETS["sign_cnn"].build(5, (3, 32, 32))
    with pytest.raises(ModelError, match=r"does not run on images of shape \(3, 16, 16\)"):
        Classifier(network, (3, 16, 16))
    with pytest.raises(ModelError, match=r"expected 5 class names, one per output, got 2"):
        Classifier(network, (3, 32, 32), class_names=("a", "b"))
    with pytest.raises(
        ModelError, match=r"expected logits \(N, classes\) from the network, got \(2, 3, 8, 8\)"
    ):
        Classifier(nn.Identity(), (3, 8, 8))


def test_activations_of_the_penultimate_and_of_a_named_layer(images):
    model = Classifier(NETS["deepid"].build(6, (3, 55, 47)), (3, 55, 47))
    batch = images(3, 3, 55, 47)
    features = model.activations(batch)
    assert features.shape == (3, 160)
    torch.testing.assert_close(
        features @ model.module("output").weight.T + model.module("output").bias, model.all_logits(batch)
    )
    assert model.activations(batch, "conv_4").shape == (3, 80, 4, 3)
    with pytest.raises(ModelError, match=r"expected a layer out of conv_1, .*got 'conv_9'"):
        model.activations(batch, "conv_9")


def test_copy_is_independent(model, images):
    batch = images(2, 3, 32, 32)
    before = model.all_logits(batch)
    copy = model.copy()
    with torch.no_grad():
        copy.network[0].weight.zero_()
    assert torch.equal(model.all_logits(batch), before)
    assert not torch.equal(copy.all_logits(batch), before)
    assert copy.origin.details is model.origin.details
