"""Hugging Face's data sets: parquet files, and what `save_to_disk` writes."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from detrojan.data.formats.hugging_face import parse_head
from detrojan.data.reading import read_data, splits_of
from detrojan.errors import DataError, MissingExtraError
from picture_files import levels, png

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]},
}


def table(shown, labels, *, features=FEATURES, struct=True):
    cells = [{"bytes": png(level), "path": f"{level}.png"} if struct else png(level) for level in shown]
    held = pa.table({"image": cells, "label": labels})
    if features is None:
        return held
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    return held.replace_schema_metadata(noted)


def test_parquet_files_of_splits_in_a_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("a data set")
    for name, shown in (
        ("train-00000-of-00002", [10, 20, 30]),
        ("train-00001-of-00002", [40]),
        ("test-0", [50]),
    ):
        held = table(shown, [level // 10 % 3 for level in shown])
        parquet.write_table(held, tmp_path / "data" / f"{name}.parquet", row_group_size=2)
    assert sorted(splits_of(tmp_path)) == ["test", "train"]
    data = read_data(tmp_path, split="train")
    assert levels(data) == [10, 20, 30, 40]
    assert data.labels.tolist() == [1, 2, 0, 1]
    assert data.class_names == ("cat", "dog", "owl")
    assert not data.named
    part = read_data(tmp_path, split="train", limit=3)
    assert levels(part) == [[10, 20, 30, 40][at] for at in part.positions]
    assert levels(read_data(tmp_path / "data" / "test-0.parquet")) == [50]


@pytest.mark.parametrize("struct", [True, False])
def test_columns_are_found_without_notes_too(tmp_path, struct):
    held = table([10, 20], ["b", "a"], features=None, struct=struct)
    parquet.write_table(held, tmp_path / "d.parquet")
    data = read_data(tmp_path / "d.parquet")
    assert (levels(data), data.labels.tolist(), data.class_names) == ([10, 20], [1, 0], ("a", "b"))
    assert data.named


def test_the_only_column_of_bytes_holds_the_pictures(tmp_path):
    parquet.write_table(pa.table({"img_bytes": [png(10), png(20)], "target": [1, 0]}), tmp_path / "d.parquet")
    data = read_data(tmp_path / "d.parquet")
    assert (levels(data), data.labels.tolist()) == ([10, 20], [1, 0])


def saved(folder, shown, **state):
    folder.mkdir(parents=True)
    held = table(shown, [0] * len(shown))
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), held.schema) as writer:
        writer.write_table(held, max_chunksize=2)
    told = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_files": None, **state}
    (folder / "state.json").write_text(json.dumps(told))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_what_save_to_disk_writes(tmp_path):
    path = saved(tmp_path / "one", [10, 20, 30])
    data = read_data(path)
    assert (levels(data), data.class_names) == ([10, 20, 30], ("cat", "dog", "owl"))
    for split in ("train", "validation"):
        saved(tmp_path / "several" / split, [len(split)])
    (tmp_path / "several" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    assert sorted(splits_of(tmp_path / "several")) == ["train", "val"]
    assert levels(read_data(tmp_path / "several", split="val")) == [10]
    with pytest.raises(DataError, match="expected files within the folder"):
        read_data(saved(tmp_path / "x", [1], _data_files=[{"filename": "../one/data-00000-of-00001.arrow"}]))
    with pytest.raises(DataError, match=r"rows that were picked.*flatten_indices\(\)"):
        read_data(saved(tmp_path / "y", [1], _indices_files=[{"filename": "indices.arrow"}]))


def test_a_row_without_a_picture_is_skipped(tmp_path):
    cells = [{"bytes": png(10), "path": None}, {"bytes": None, "path": "/etc/hosts"}, None]
    parquet.write_table(pa.table({"image": cells, "label": [0, 1, 1]}), tmp_path / "d.parquet")
    data = read_data(tmp_path / "d.parquet")
    assert levels(data) == [10]
    assert len(data.skipped) == 2


def test_damage_and_other_tables_are_errors_of_ours(tmp_path):
    parquet.write_table(pa.table({"number": [1], "label": [0]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="expected a column of pictures, got number, label"):
        read_data(tmp_path / "d.parquet")
    parquet.write_table(table([10, 20], [0, 1]), tmp_path / "d.parquet")
    content = (tmp_path / "d.parquet").read_bytes()
    for cut in (5, 100, len(content) // 2, len(content) - 3):
        (tmp_path / "d.parquet").write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"d\.parquet"):
            read_data(tmp_path / "d.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    parquet.write_table(table([10], [0]), tmp_path / "d.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"detrojan\[datasets\]"):
        parse_head(tmp_path / "d.parquet")  # where parsers run, in a process of their own


def test_arrays_where_pictures_are_expected_are_named_with_the_way_out(tmp_path):
    parquet.write_table(pa.table({"img": [[[1, 2], [3, 4]]], "label": [0]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"img holds list<.*cast_column\('img', datasets\.Image\(\)\)"):
        read_data(tmp_path / "d.parquet")
