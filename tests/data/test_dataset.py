import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, RangeError


def made(count=10, **changes):
    images = torch.arange(count).float().div(count).view(count, 1, 1, 1).expand(count, 3, 4, 5).clone()
    return Dataset(**{"images": images, "labels": torch.arange(count), **changes})


def test_select_takes_labels_and_extra_along():
    data = made(extra={"track": torch.arange(10) * 7})
    part = data.select([4, 1])
    assert part.labels.tolist() == [4, 1]
    assert part.extra["track"].tolist() == [28, 7]
    assert part.images[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.1])
    assert data.select(data.labels > 7).labels.tolist() == [8, 9]
    assert len(data) == 10


def test_sample_and_split_follow_the_seed_without_repeats():
    data = made()
    draw = [data.sample(6, torch.Generator().manual_seed(3)).labels.tolist() for _ in range(2)]
    assert draw[0] == draw[1]
    assert len(set(draw[0])) == 6
    some, rest = data.split(3, torch.Generator().manual_seed(3))
    assert len(some) == 3
    assert sorted(some.labels.tolist() + rest.labels.tolist()) == list(range(10))


@pytest.mark.parametrize("count", [0, 10, 11])
def test_split_refuses_an_empty_part(count):
    with pytest.raises(DataError, match=f"expected a part of 1 to 9 images, got {count}"):
        made().split(count, torch.Generator())


def test_what_cannot_be_data_is_refused_with_what_was_expected():
    with pytest.raises(DataError, match=r"expected images \(N, C, H, W\) with 1 or 3 channels"):
        made(images=torch.zeros(10, 4, 5, 5))
    with pytest.raises(DataError, match="expected at least one image, got none"):
        made(images=torch.zeros(0, 3, 5, 5))
    with pytest.raises(DataError, match=r"expected float32 images, got torch\.float64"):
        made(images=torch.zeros(10, 3, 5, 5, dtype=torch.float64))
    with pytest.raises(RangeError, match=r"here: expected images in \[0, 1\], got 0 to 255"):
        made(images=torch.tensor([0.0, 255]).view(2, 1, 1, 1), labels=None, source="here")
    with pytest.raises(RangeError, match="got nan"):
        made(images=torch.full((10, 3, 2, 2), torch.nan))
    with pytest.raises(LabelError, match=r"expected one label per image \(10\), got shape \(9,\)"):
        made(labels=torch.arange(9))
    with pytest.raises(LabelError, match="expected labels from 0, got -1"):
        made(labels=torch.arange(10) - 1)
    with pytest.raises(DataError, match="expected 10 values of track, got 3"):
        made(extra={"track": torch.arange(3)})


def test_labels_are_asked_for_with_the_purpose():
    assert made().require_labels("training").tolist() == list(range(10))
    with pytest.raises(LabelError, match=r"expected labelled data for training.*\(faces\)"):
        made(labels=None, source="faces").require_labels("training")


def test_with_labels_leaves_the_original_alone():
    data = made()
    assert data.with_labels(None).labels is None
    assert data.labels is not None
    assert data.shape == (3, 4, 5)


def test_files_and_positions_are_one_per_sample_and_travel_with_them():
    images = torch.rand(3, 1, 4, 4)
    data = Dataset(images, files=("a", "b", "c"), positions=torch.tensor([7, 2, 5]), total=9)
    for key in (torch.tensor([2, 0]), [2, 0]):
        part = data.select(key)
        assert (part.files, part.positions.tolist(), part.total) == (("c", "a"), [5, 7], 9)
    assert data.select(torch.tensor([False, True, False])).files == ("b",)
    assert data.select(slice(1, 3)).files == ("b", "c")
    with pytest.raises(DataError, match="expected 3 values of files, got 2"):
        Dataset(images, files=("a", "b"))
    with pytest.raises(DataError, match="expected 3 values of positions, got 1"):
        Dataset(images, positions=torch.tensor([1]))
