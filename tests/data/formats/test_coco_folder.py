"""Pictures with COCO's annotations."""

import json

import pytest

from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError
from picture_files import levels, placed

NAMES = {0: "animals", 3: "cat", 7: "dog"}


def coco(path, shown):
    """Write annotations: {file: [category ids]}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": at, "file_name": name, "height": 4, "width": 4} for at, name in enumerate(shown)]
    marks = [
        {"id": at, "image_id": at, "category_id": kind, "bbox": [0, 0, 2, 2]}
        for at, kinds in enumerate(shown.values())
        for kind in kinds
    ]
    kinds = [
        {"id": key, "name": name, "supercategory": "animals" if key else "none"}
        for key, name in NAMES.items()
    ]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": marks, "categories": kinds}))
    return path


@pytest.mark.parametrize("where", ["images", "train2017", ".", "images/train"])
def test_pictures_lie_where_exports_put_them(tmp_path, where):
    for level in (10, 20, 30):
        placed(tmp_path / where / f"{level}.png", level)
    coco(
        tmp_path / "annotations" / "instances_train2017.json",
        {"30.png": [3, 3], "10.png": [7], "20.png": [3]},
    )
    data = read_data(tmp_path)
    assert levels(data) == [30, 10, 20]
    assert data.labels.tolist() == [0, 1, 0]
    assert data.class_names == ("cat", "dog")
    assert data.named
    assert levels(read_data(tmp_path / "annotations" / "instances_train2017.json")) == [30, 10, 20]


def test_a_file_in_each_folder_of_a_split(tmp_path):
    for split, level in (("train", 10), ("valid", 20)):
        placed(tmp_path / split / "a.png", level)
        coco(tmp_path / split / "_annotations.coco.json", {"a.png": [3]})
    assert sorted(splits_of(tmp_path)) == ["train", "val"]
    assert levels(read_data(tmp_path, split="val")) == [20]


def test_several_categories_are_refused_by_name_and_none_is_listed(tmp_path):
    for level in (10, 20):
        placed(tmp_path / "images" / f"{level}.png", level)
    path = coco(tmp_path / "a.json", {"10.png": [3, 7], "20.png": [3]})
    with pytest.raises(DataError, match=r"1 pictures of more \(the first is '10\.png': cat, dog\)"):
        read_data(tmp_path)
    assert len(read_data(tmp_path, unlabelled=True)) == 2
    coco(path, {"10.png": [], "20.png": [3]})
    data = read_data(tmp_path)
    assert levels(data) == [20]
    assert "10.png: without a category" in data.skipped[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.pop("categories"),
        lambda held: held["images"][0].update(file_name="../a.png"),
        lambda held: held["annotations"][0].update(category_id=99),
        lambda held: held.update(images=7),
        lambda held: held["annotations"].append(None),
    ],
)
def test_damaged_annotations_are_an_error_of_ours(tmp_path, change):
    placed(tmp_path / "10.png", 10)
    path = coco(tmp_path / "a.json", {"10.png": [3]})
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match=r"a\.json: expected "):
        read_data(tmp_path)
