"""Tables that hold the pixels themselves."""

import numpy as np
import pytest

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError

IMAGES = np.arange(3 * 36, dtype=np.uint8).reshape(3, 6, 6)


def lines(separator, wrap="{}"):
    return [wrap.format(separator.join(map(str, image.ravel()))) for image in IMAGES]


def read(tmp_path, text, **more):
    (tmp_path / "train.csv").write_text(text)
    return read_data(tmp_path / "train.csv", **more)


def shown(data):
    return (data.images.numpy()[:, 0] * 255).round().astype(int).tolist()


def test_fer2013(tmp_path):
    usage = ("Training", "PublicTest", "Training")
    rows = [f"{at},{text},{usage[at]}" for at, text in enumerate(lines(" ", '"{}"'))]
    text = "\n".join(["emotion,pixels,Usage", *rows])
    data = read(tmp_path, text, split="train")
    assert shown(data) == IMAGES[[0, 2]].tolist()
    assert data.labels.tolist() == [0, 2]
    assert splits_of(tmp_path / "train.csv") == ("train", "val")


@pytest.mark.parametrize("header", [True, False])
def test_a_column_for_each_pixel(tmp_path, header):
    names = ["label," + ",".join(f"pixel{at}" for at in range(36))] if header else []
    data = read(tmp_path, "\n".join([*names, *(f"{at},{text}" for at, text in enumerate(lines(",")))]))
    assert (shown(data), data.labels.tolist()) == (IMAGES.tolist(), [0, 1, 2])
    assert len(read_data(tmp_path / "train.csv", limit=1, unlabelled=True)) == 1


@pytest.mark.parametrize("row", ["0,1,2", "0," + ",".join(["300"] * 36), "0," + ",".join(["x"] * 36)])
def test_damaged_rows_are_named(tmp_path, row):
    names = "label," + ",".join(f"pixel{at}" for at in range(36))
    with pytest.raises(DataError, match=r"train\.csv: row 2: expected"):
        read(tmp_path, "\n".join([names, f"0,{lines(',')[0]}", row]))
