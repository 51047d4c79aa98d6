"""Trains a network of the literature from its start; test material and the demonstration need it."""

from __future__ import annotations

import torch

from detrojan.data.dataset import Dataset
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.nets import find_net
from detrojan.run import Run


def train_net(
    net: str,
    data: Dataset,
    how: Fitting,
    *,
    classes: int,
    names: tuple[str, ...] = (),
    run: Run,
    title: str = "training",
) -> Classifier:
    """Return a network of `nets`, trained on labelled data with small shifts of the images.

    Args:
        net: name of the network.
        data: labelled images.
        how: hyper-parameters of the training.
        classes: number of classes.
        names: one name per class, or empty.
        run: device, seed, progress, checkpoint. Equal seeds give equal starts.
        title: what the progress shows.

    Raises:
        OptionError: no such network, or images that it does not take.
        LabelError: no labels, or labels beyond `classes`.

    """
    model = start_net(net, data.shape, classes=classes, names=names, run=run)
    fit(model, data, how, run=run, title=title, augment=shift(2), identity={"net": net, "shift": 2})
    return model


def start_net(
    net: str, shape: tuple[int, int, int], *, classes: int, names: tuple[str, ...] = (), run: Run
) -> Classifier:
    """Return a network of `nets` as it is before its training.

    Args:
        net: name of the network.
        shape: (C, H, W) of the images.
        classes: number of classes.
        names: one name per class, or empty.
        run: its seed. Equal seeds give equal starts.

    Raises:
        OptionError: no such network, or images that it does not take.

    """
    found = find_net(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.derived_seed("start"))
        network = found.build(classes, shape)
    return Classifier(network, shape, class_names=names, origin=Origin(net=net))
