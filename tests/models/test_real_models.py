"""Third-party networks reach the clean accuracy that is stated for them."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.models.loading import load_model
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.writing import save_model

pytestmark = pytest.mark.realdata

HALF = Preprocessing(mean=(0.5,), std=(0.5,))
CIFAR = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
COUNT = 500


def _maps(images):
    images = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def data(shared_data):
    @cache
    def mnist():
        file = np.load(shared_data / "mnist.npz")
        return _maps(file["x_test"][:COUNT]), file["y_test"][:COUNT]

    @cache
    def cifar():
        file = np.load(shared_data / "cifar10_lossless_train4000.npz")
        return _maps(file["x"][:COUNT]), file["y"][:COUNT]

    @cache
    def gtsrb():
        file = np.load(shared_data / "gtsrb_32.npz")
        signs = []
        for frame, roi in zip(file["x_test"][:COUNT], file["roi_test"][:COUNT], strict=True):
            width, height, x1, y1, x2, y2 = (float(value) for value in roi)
            box = (x1 * 32 / width, y1 * 32 / height, x2 * 32 / width, y2 * 32 / height)
            resized = Image.fromarray(frame).resize((32, 32), Image.Resampling.BILINEAR, box=box)
            signs.append(np.asarray(resized))
        return _maps(np.stack(signs)), file["y_test"][:COUNT]

    return {"mnist": mnist, "cifar": cifar, "gtsrb": gtsrb}


def _accuracy(model, images, labels):
    return float((model.answers(images).numpy() == labels).mean())


@pytest.mark.parametrize(
    ("file", "found", "kind", "pre", "stated"),
    [
        ("abl/WRN-16-1-gridTrigger-targetLB0.pt", "wrn_16_1", "cifar", Preprocessing(), 0.982),
        ("kabu03/backdoor_model.pth", "five_conv_cnn", "cifar", CIFAR, 0.865),
        ("verazuo/badnet-CIFAR10.pth", "badnets_cnn", "cifar", HALF, 0.57),
        ("verazuo/badnet-MNIST.pth", "mnist_cnn", "mnist", HALF, 0.981),
        ("ibau/badnets_8_02_ckpt.pth", "small_vgg", "cifar", Preprocessing(), 0.947),
        ("ibau/l0_inv_0_02_ckpt.pth", "small_vgg", "cifar", Preprocessing(), 0.942),
        ("ibau/gtsrbbadnets_8_02_ckpt.pth", "small_vgg", "gtsrb", Preprocessing(), 0.978),
        ("shihaozhao/badnet.pth", "mnist_cnn", "mnist", Preprocessing(high=255.0), 0.989),
        ("dillonsd/mnist_baseline.h5", "", "mnist", Preprocessing(), 0.991),
        ("dillonsd/mnist_single_pixel_all_to_one.h5", "", "mnist", Preprocessing(), 0.993),
    ],
)
def test_reaches_its_clean_accuracy(shared_data, data, tmp_path, file, found, kind, pre, stated):
    path = shared_data / "models" / file
    images, labels = data[kind]()
    model = load_model(path, preprocessing=pre)
    assert model.origin.net == found
    assert _accuracy(model, images, labels) == pytest.approx(stated, abs=0.025)
    few = images[:50]
    logits = model.all_logits(few)
    named = load_model(path, preprocessing=pre, net=found or "mnist_cnn")
    torch.testing.assert_close(named.all_logits(few), logits, rtol=1e-4, atol=1e-4)
    written = load_model(save_model(model, tmp_path / path.name), preprocessing=pre)
    assert torch.equal(written.all_logits(few), logits)


@pytest.mark.parametrize("file", ["verazuo/badnet-MNIST.pth", "shihaozhao/badnet.pth"])
def test_max_pooling_is_wrong_for_them(shared_data, data, file):
    images, labels = data["mnist"]()
    pre = HALF if "verazuo" in file else Preprocessing(high=255.0)
    average = load_model(shared_data / "models" / file, net="mnist_cnn", preprocessing=pre)
    maximum = load_model(shared_data / "models" / file, net="mnist_cnn_max", preprocessing=pre)
    assert _accuracy(average, images, labels) > _accuracy(maximum, images, labels) + 0.03


@pytest.mark.parametrize("name", ["sunglasses_bd_weights.h5", "anonymous_1_bd_weights.h5"])
def test_contest_networks(shared_data, tmp_path, name):
    path = shared_data / "models" / "csaw2020" / name
    model = load_model(path, net="deepid")
    assert (model.num_classes, model.input_shape) == (1283, (3, 55, 47))
    assert load_model(path).origin.net == "deepid"
    file = np.load(shared_data / "csaw_faces" / "csaw_faces_and_triggers.npz")
    known = file["label"] >= 0
    assert _accuracy(model, _maps(file["x"][known]), file["label"][known]) > 0.5
    written = save_model(model, tmp_path / "same.h5")
    assert torch.equal(load_model(written, net="deepid").module("fc_1").weight, model.module("fc_1").weight)
