import numpy as np
import pytest
import torch

from detrojan.benchmark.materials import prepare
from detrojan.benchmark.parts import DataPlan, Sizes
from detrojan.errors import DataError
from detrojan.run import Run

RANDOM = np.random.default_rng(1)


@pytest.fixture
def data(tmp_path):
    """Return 400 images, each recognised by its pixels; label 3 is rare; eight of each track."""
    labels = np.where(np.arange(400) < 6, 3, np.arange(400) % 3)
    path = tmp_path / "x.npz"
    images = RANDOM.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=labels, track=np.arange(400) // 8)
    return {"x": str(path)}


def made(data, seed=0, sizes=None, **options):
    options = {"train_split": "", "held_out": 0.25, "clean": 40, **options}
    return prepare("x", DataPlan(**options), data, sizes or Sizes(), run=Run(seed=seed))


def prints(images):
    return {image.numpy().tobytes() for image in images}


def test_no_image_lies_in_two_parts_and_seeds_divide_anew(data):
    found = made(data)
    parts = [prints(part.images) for part in (found.train, found.clean, found.test)]
    assert [len(part) for part in parts] == [260, 40, 100]
    assert len(set.union(*parts)) == 400
    assert prints(made(data).test.images) == parts[2]
    assert prints(made(data, seed=1).test.images) != parts[2]


def test_the_profile_limits_and_the_data_set_s_own_limit_goes_first(data):
    sizes = Sizes(train=100, test=30, epochs=None)
    found = made(data, sizes=sizes)
    assert (len(found.train), len(found.clean), len(found.test)) == (100, 40, 30)
    assert len(made(data, sizes=sizes, train=120).train) == 120


def test_groups_stay_together(data):
    found = made(data, by="track")
    train = set(found.train.extra["track"].tolist()) | set(found.clean.extra["track"].tolist())
    assert not train & set(found.test.extra["track"].tolist())
    with pytest.raises(DataError, match="expected an array speaker to divide by, got track"):
        made(data, by="speaker")


def test_classes_are_chosen_and_numbered_anew(data):
    assert set(made(data, least=20).train.labels.tolist()) == {0, 1, 2}
    two = made(data, classes=(2, 0))
    whole = made(data)
    before = {
        image.numpy().tobytes(): int(label)
        for part in (whole.train, whole.clean, whole.test)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    for image, label in zip(two.train.images, two.train.labels, strict=True):
        assert before[image.numpy().tobytes()] == (2, 0)[int(label)]
    with pytest.raises(DataError, match="expected 2 classes or more, got 1"):
        made(data, classes=(1,))


def test_too_small_data_are_told(data):
    with pytest.raises(DataError, match="x: expected 420 images or more to train on and for the defender"):
        made(data, clean=400)


def test_equalised_images_have_even_histograms(data):
    dark = made(data).train.images
    assert not torch.equal(made(data, equalise=True).train.images, dark)
