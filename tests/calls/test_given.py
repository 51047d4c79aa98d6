from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset as TorchDataset, Subset, TensorDataset, default_collate

from detrojan.calls import given
from detrojan.calls.given import classifier
from detrojan.calls.images import dataset
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
        ([("a.png", 1)], None, DataError, "got the path a.png: give a list of paths alone"),
        (["a.png"], None, DataError, "there is no file or folder .*a.png"),
        (None, None, DataError, "expected images, got NoneType"),
        ([{"text": "hello"}], None, DataError, "expected an image under 'image', 'img'.*, got 'text'"),
        ([object()], None, DataError, "expected images, got object"),
        (torch.rand(4, 3, 8, 8), [0, 1], LabelError, r"expected 4 labels, one per image, got shape \(2,\)"),
        (torch.rand(4, 3, 8, 8), [0.5] * 4, LabelError, "expected whole labels, got 0.5"),
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
            "expected a path, an nn.Module.* or an object with predict_proba as the model, got object",
        ),
        (network(), {"net": "deepid"}, OptionError, "expected net only beside a file"),
        (network(), {"colour": "red"}, OptionError, "expected options out of net, .*; got colour"),
        (network(), {"classes": 7}, ModelError, "expected 7 classes as asked, got 4 outputs"),
        (network(), {"input_range": (1, 0)}, OptionError, "expected an input_range .*low before high"),
        (network(), {"input_range": 255}, OptionError, "expected 2 numbers as input_range, got 255"),
        (network(), {"mean": "grey"}, OptionError, "expected a number, or one per channel, as mean"),
        (network(), {"input_shape": (3, 8)}, OptionError, "expected 3 numbers as input_shape"),
        (network().state_dict(), {}, ModelError, "got OrderedDict; load_state_dict puts weights"),
        (lambda images: images.argmax(), {}, ModelError, "expected scores"),
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


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(file, "PNG", exif=exif)
    return Image.open(file)


def test_pictures_in_memory_are_turned_upright_and_told_of(bytes_, expected):
    upright = Image.fromarray(bytes_[0])
    lying = turned(upright.transpose(Image.Transpose.ROTATE_90), 6)
    found = dataset([lying, Image.fromarray(bytes_[1])])
    assert torch.equal(found.images, expected[:2])
    assert "1 pictures were turned upright as their EXIF data ask" in found.notes
    clear = dataset([Image.new("RGBA", (6, 5), (0, 0, 0, 0))])
    assert clear.warnings == ("1 pictures with transparency were laid on white",)


class Folders(TorchDataset):
    """A data set as torchvision's ImageFolder: sorted by class."""

    classes = ("bear", "cat", "dog")
    class_to_idx = {"bear": 0, "cat": 1, "dog": 2}  # noqa: RUF012

    def __len__(self):
        return 300

    def __getitem__(self, place):
        if not 0 <= place < 300:
            raise IndexError(place)
        return Image.new("RGB", (6, 5), (place % 256, 0, 0)), place // 100


def test_a_sorted_data_set_is_drawn_from_at_random_with_its_names():
    for source in (Folders(), Subset(Folders(), range(300))):
        found = dataset(source, samples=60)
        assert found.labels.bincount().min() >= 10
        assert (found.class_names, found.named) == (("bear", "cat", "dog"), True)


def collated(items):
    return default_collate(items)


def test_an_unshuffled_loader_is_drawn_from_at_random(expected):
    held = TensorDataset(expected, torch.arange(30))
    found = dataset(DataLoader(held, batch_size=5), samples=10)
    assert found.labels.max() > 9
    assert torch.equal(found.images, expected[found.labels])
    own = DataLoader(held, batch_size=5, collate_fn=collated)
    assert dataset(own, samples=10).labels.tolist() == list(range(10))


MAPPED = {
    "samples": lambda unit, labels: [
        {"img": one, "label": int(at)} for one, at in zip(unit, labels, strict=True)
    ],
    "batches": lambda unit, labels: [{"pixel_values": unit, "labels": torch.from_numpy(labels)}],
    "arrays": lambda unit, labels: {"images": unit, "labels": labels},
    "pair of arrays": lambda unit, labels: (unit, labels),
    "triples": lambda unit, labels: [(one, int(at), 7) for one, at in zip(unit, labels, strict=True)],
    "one-hot": lambda unit, labels: list(zip(unit, np.eye(4)[labels], strict=True)),
    "text": lambda unit, labels: list(zip(unit, ["abcd"[at] for at in labels], strict=True)),
}


@pytest.mark.parametrize("way", MAPPED.values(), ids=MAPPED)
def test_samples_are_taken_in_any_usual_form(way, expected):
    found = dataset(way(expected, LABELS))
    assert torch.equal(found.images, expected)
    assert found.labels.tolist() == LABELS.tolist()


def test_labels_that_nobody_knows_are_left_out(expected):
    assert dataset(expected, -np.ones(30, int)).labels is None


def test_a_list_of_files_is_read_with_labels_beside_it(tmp_path, bytes_, expected):
    paths = [tmp_path / f"{at}.png" for at in range(3)]
    for at, path in enumerate(paths):
        Image.fromarray(bytes_[at]).save(path)
    found = dataset(paths, [2, 0, 1])
    assert torch.equal(found.images, expected[:3])
    assert found.labels.tolist() == [2, 0, 1]


def test_what_was_prepared_for_the_network_already_is_taken_back(expected):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    prepared = (expected - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    model = classifier(network(), {"mean": mean, "std": std}, shape=SHAPE)
    found = dataset(prepared, network=model)
    assert torch.allclose(found.images, expected, atol=1e-5)
    assert "prepared for the network already" in found.warnings[0]
    with pytest.raises(
        RangeError, match="a transform standardises them, leave it out and state mean= and std="
    ):
        dataset(prepared)
    with pytest.raises(RangeError, match="leave it out"):
        dataset(prepared * 3, network=model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_precision_is_judged_in_float32_and_left_as_it_is(kind, expected):
    net = network().to(kind)
    model = classifier(net, shape=SHAPE)
    assert torch.allclose(model.all_logits(expected), network()(expected), atol=0.02)
    assert next(net.parameters()).dtype == kind
    assert "judged in float32" in model.origin.notes[0]


def test_a_module_stays_on_its_device(monkeypatch):
    net = network()
    held = classifier(net, shape=SHAPE)
    with monkeypatch.context() as patched:
        patched.setattr(given, "check_device", lambda _: None)  # there is no other real one everywhere
        moved = [classifier(one, shape=SHAPE, device="meta") for one in (net, held)]
    assert {model.device.type for model in moved} == {"meta"}
    assert next(net.parameters()).device.type == held.device.type == "cpu"
    with pytest.raises(OptionError, match="expected a device that torch can use, got 'abacus'"):
        classifier(net, shape=SHAPE, device="abacus")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_networks_and_objects_with_predict_proba_are_taken(expected):
    script = torch.jit.trace(network().eval(), expected[:2])
    model = classifier(script, shape=SHAPE)
    assert torch.allclose(model.copy().all_logits(expected), network()(expected), atol=1e-5)

    class Estimator:
        def predict_proba(self, images):
            return np.full((len(images), 3), 1 / 3)

    assert classifier(Estimator(), shape=SHAPE).num_classes == 3
    with pytest.raises(ModelError, match="got a whole number for each image, as labels are"):
        classifier(lambda images: np.zeros(len(images), int), shape=SHAPE)


def test_options_are_taken_in_the_forms_that_mean_the_same(expected):
    plain = classifier(network(), {"input_range": (0, 255), "mean": [127.0], "std": [50.0]}, shape=SHAPE)
    other = classifier(network(), {"input_range": "0-255", "mean": 127, "std": 50}, shape=SHAPE)
    assert torch.equal(plain.all_logits(expected), other.all_logits(expected))
    named = classifier(network(), {"preprocess": "imagenet"}, shape=SHAPE)
    assert named.preprocessing.mean == (0.485, 0.456, 0.406)


def test_answers_are_the_same_for_every_form_of_the_images(bytes_, expected):
    model = classifier(network(), shape=SHAPE)
    wanted = model.predict_proba(expected)
    pictures = [Image.fromarray(one) for one in bytes_]
    for form in (bytes_, torch.from_numpy(bytes_), list(bytes_), pictures, expected.double().numpy()):
        assert np.allclose(model.predict_proba(form), wanted, atol=1e-5)
    with pytest.raises(RangeError, match=r"expected images in \[0, 1\] or integers in 0..255, got"):
        model.predict(bytes_.astype(np.float32))
    with pytest.raises(DataError, match="pictures of one size, got several: dataset"):
        model.predict([pictures[0], pictures[0].resize((4, 4))])
