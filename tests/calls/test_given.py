from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from detrojan.calls.given import classifier, dataset
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, ModelError, OptionError, RangeError
from detrojan.models.nets import find_net
from detrojan.models.writing import save_model
from detrojan.run import Run

SHAPE = (3, 12, 10)


@pytest.fixture
def bytes_() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)


@pytest.fixture
def expected(bytes_) -> torch.Tensor:
    return torch.from_numpy(bytes_.transpose(0, 3, 1, 2) / np.float32(255)).float()


def network(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


LABELS = np.arange(30) % 4
WAYS = {
    "channels last": lambda raw, unit: raw,
    "channels first": lambda raw, unit: raw.transpose(0, 3, 1, 2),
    "floats": lambda raw, unit: unit.numpy(),
    "tensor": lambda raw, unit: unit,
    "tensor with a graph": lambda raw, unit: unit.clone().requires_grad_(),
    "half": lambda raw, unit: unit.half(),
    "bytes in a tensor": lambda raw, unit: torch.from_numpy(raw),
    "list of arrays": lambda raw, unit: list(raw),
    "list of tensors": lambda raw, unit: list(unit),
    "pictures": lambda raw, unit: [Image.fromarray(one) for one in raw],
    "data set": lambda raw, unit: Dataset(unit),
    "generator": lambda raw, unit: (one for one in raw),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_images_are_taken_as_they_come(way, bytes_, expected):
    found = dataset(way(bytes_, expected), LABELS)
    assert torch.allclose(found.images, expected, atol=1e-3)
    assert found.labels.tolist() == LABELS.tolist()


PAIRED = {
    "list of pairs": lambda unit, labels: list(zip(unit, labels.tolist(), strict=True)),
    "pytorch data set": TensorDataset,
    "loader": lambda unit, labels: DataLoader(TensorDataset(unit, labels), batch_size=7),
}


@pytest.mark.parametrize("way", PAIRED.values(), ids=PAIRED)
def test_labels_come_with_the_images(way, expected):
    found = dataset(way(expected, torch.from_numpy(LABELS)))
    assert torch.equal(found.images, expected)
    assert found.labels.tolist() == LABELS.tolist()


def test_a_source_without_an_end_is_read_so_far(bytes_):
    def endless():
        while True:
            yield bytes_[0]

    assert len(dataset(endless(), samples=12)) == 12


def test_samples_are_drawn_with_the_runs_seed(expected):
    first, again = (dataset(expected, LABELS, samples=9, run=Run(seed=4)) for _ in range(2))
    assert len(first) == 9
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, dataset(expected, samples=9, run=Run(seed=5)).images)


def test_pictures_of_several_sizes_need_one_size_or_a_network(bytes_):
    pictures = [Image.fromarray(bytes_[0]), Image.fromarray(bytes_[0][:8])]
    with pytest.raises(DataError, match=r"images of one size, got 12x10 and 8x10; .*input_shape=\(C, H, W\)"):
        dataset(pictures)
    assert dataset(pictures, size=(6, 5)).shape == (3, 6, 5)
    model = classifier(network(), shape=(3, 9, 9))
    found = dataset(pictures, network=model)
    assert found.shape == (3, 9, 9)
    assert "2 different sizes are resized to 9x9 (bilinear), as is usual" in found.notes[-1]


def test_pictures_of_pillows_are_what_files_of_them_are(tmp_path):
    clear = Image.new("RGBA", (6, 5), (200, 10, 30, 0))
    wide = Image.fromarray(np.full((5, 6), 65535, dtype=np.uint16))
    for picture, expected in ((clear, 1.0), (wide, 1.0), (Image.new("1", (6, 5), 1), 1.0)):
        assert dataset([picture, picture]).images.unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("images", "labels", "error", "text"),
    [
        (torch.rand(4, 3, 8, 8) * 3 - 1, None, RangeError, r"expected images in \[0, 1\], got min"),
        ([], None, DataError, "expected images, got none"),
        (["a.png"], None, DataError, "got the path a.png: give the folder instead"),
        ([object()], None, DataError, "expected images, got object"),
        (torch.rand(4, 3, 8, 8), [0, 1], LabelError, r"expected 4 whole numbers as labels.*\(2,\)"),
        (torch.rand(4, 3, 8, 8), [0.5] * 4, LabelError, "expected 4 whole numbers"),
        ([(torch.rand(3, 8, 8), 1), torch.rand(3, 8, 8)], None, LabelError, "a label for each of the 2"),
    ],
)
def test_what_is_no_image_is_refused(images, labels, error, text):
    with pytest.raises(error, match=text):
        dataset(images, labels)


def test_a_path_goes_to_the_reader(tmp_path, bytes_):
    np.savez(tmp_path / "some.npz", images=bytes_, labels=LABELS)
    found = dataset(tmp_path / "some.npz", samples=10)
    assert (len(found), found.total) == (10, 30)
    with pytest.raises(OptionError, match="got labels beside a path"):
        dataset(tmp_path / "some.npz", LABELS)


def test_a_module_takes_the_images_shape_and_is_fed_as_stated(expected):
    model = classifier(
        network(), {"mean": [0.4, 0.5, 0.6], "std": [0.2] * 3, "class_names": list("abcd")}, shape=SHAPE
    )
    fed = (expected - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2
    assert torch.allclose(model.all_logits(expected), network()(fed), atol=1e-5)
    assert model.class_names == ("a", "b", "c", "d")


def test_a_file_and_a_classifier_are_taken_too(tmp_path, expected):
    net = find_net("mnist_cnn").build(10, (1, 28, 28))
    model = classifier(net, shape=(1, 28, 28))
    assert classifier(model) is model
    save_model(model, tmp_path / "one.safetensors")
    read = classifier(
        str(tmp_path / "one.safetensors"), {"class_names": list("0123456789"), "net": "mnist_cnn"}
    )
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(read.all_logits(images), model.all_logits(images))
    assert read.class_names[3] == "3"


@pytest.mark.parametrize(
    ("model", "feeding", "error", "text"),
    [
        (
            object(),
            {},
            ModelError,
            "expected a path, an nn.Module, a Classifier or a callable as the model, got object",
        ),
        (network(), {"net": "deepid"}, OptionError, "expected net only beside a file"),
        (network(), {"colour": "red"}, OptionError, "expected options out of net, .*; got colour"),
        (network(), {"classes": 7}, ModelError, "expected 7 classes as asked, got 4 outputs"),
        (network(), {"input_range": "auto"}, OptionError, "expected an input_range"),
        (lambda images: images, {}, ModelError, r"expected logits \(N, classes\)"),
        (nn.Conv2d(3, 4, 3), {}, ModelError, r"expected logits \(N, classes\)"),
    ],
)
def test_what_is_no_model_is_refused(model, feeding, error, text):
    with pytest.raises(error, match=text):
        classifier(model, feeding, shape=SHAPE)


def test_a_module_needs_a_shape_and_a_classifier_no_options():
    with pytest.raises(OptionError, match=r"expected input_shape=\(C, H, W\) for a module"):
        classifier(network())
    with pytest.raises(OptionError, match="expected no options beside a Classifier, got net"):
        classifier(classifier(network(), shape=SHAPE), {"net": "deepid"})
