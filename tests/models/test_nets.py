"""The networks have exactly the sizes their papers and files say."""

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.nets import NETS, FlattenChannelsLast, find_net


def _build(name):
    net = NETS[name]
    return net.build(net.classes, net.shape)


def _count(network):
    return sum(p.numel() for p in network.parameters())


def test_deepid_has_the_contest_nets_601643_parameters():
    assert _count(_build("deepid")) == 601_643


def test_sign_cnn_has_4461001_values_of_which_1472_are_not_trained():
    network = _build("sign_cnn")
    kept = sum(b.numel() for n, b in network.named_buffers() if not n.endswith("num_batches_tracked"))
    # Keras counts the batch norms' moving averages as parameters that are not trainable
    assert (_count(network) + kept, kept) == (4_461_001, 1_472)


@pytest.mark.parametrize("name", NETS)
def test_answers_one_logit_per_class_on_its_usual_images(name):
    net = NETS[name]
    model = Classifier(net.build(7, net.shape), net.shape)
    assert model.num_classes == 7
    assert model.layers[-1].units == 7
    assert model.head == model.layers[-1].name


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.any_size])
def test_any_size_networks_take_other_images(name):
    assert Classifier(NETS[name].build(4, (1, 40, 48)), (1, 40, 48)).num_classes == 4


def test_flatten_channels_last_is_keras_order():
    maps = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert FlattenChannelsLast()(maps).tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]


def test_unknown_network_lists_the_known():
    with pytest.raises(OptionError, match=r"expected a network out of deepid, sign_cnn.*got 'resnet'"):
        find_net("resnet")
