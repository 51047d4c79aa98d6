"""Tables that list pictures with their labels."""

import json

import pytest

from detrojan.data.reading import data_digest, read_data, splits_of
from detrojan.errors import DataError, LabelError
from picture_files import levels, placed


@pytest.fixture
def folder(tmp_path):
    for level in (10, 20, 30):
        placed(tmp_path / "d" / "images" / f"{level}.png", level)
    return tmp_path / "d"


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_images_and_labels_csv(folder):
    path = table(folder, "\ufefffilename,label\n30.png,stop\n10.png,yield\n20.png,stop\n")
    for asked in (folder, path):
        data = read_data(asked)
        assert levels(data) == [30, 10, 20]
        assert data.labels.tolist() == [0, 1, 0]
        assert data.class_names == ("stop", "yield")
        assert data.named
    assert read_data(folder, unlabelled=True).labels is None


@pytest.mark.parametrize("line", ["path;class", "image\tlabel", '"file_name","target"'])
def test_other_separators_and_columns(folder, line):
    separator = next(mark for mark in ";\t," if mark in line)
    rows = [line, *(f"images/{level}.png{separator}{level // 10}" for level in (20, 10))]
    data = read_data(table(folder, "\n".join(rows)))
    assert (levels(data), data.labels.tolist(), data.named) == ([20, 10], [2, 1], False)


ROWS = [(20, "stop"), (10, "yield"), (30, "stop")]
TABLES = {
    "no first line of names": "".join(f"images/{at}.png,{name}\n" for at, name in ROWS),
    "spaces": "".join(f"images/{at}.png {name}\n" for at, name in ROWS),
    "strokes, unknown names": "Photo|Sign\n" + "".join(f"{at}.png|{name}\n" for at, name in ROWS),
    "a column for each class": "image,stop,yield\n"
    + "".join(f"{at}.png,{float(name == 'stop')},{float(name == 'yield')}\n" for at, name in ROWS),
    "numbers for files": "id,breed\n" + "".join(f"{at},{name}\n" for at, name in ROWS),
    "another machine's folders": "path,label\n"
    + "".join(f"C:\\Users\\me\\d\\images\\{at}.png,{name}\n" for at, name in ROWS),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_people_have_them(folder, kind):
    table(folder, TABLES[kind], "labels.txt" if kind == "spaces" else "labels.csv")
    data = read_data(folder)
    assert (levels(data), data.labels.tolist()) == ([20, 10, 30], [0, 1, 0])
    assert data.class_names == ("stop", "yield")


def test_a_table_in_utf_16(folder):
    (folder / "labels.csv").write_text(TABLES["numbers for files"], encoding="utf-16")
    assert levels(read_data(folder)) == [20, 10, 30]


def test_a_folder_of_pictures_named_as_its_table(folder):
    (folder / "images").rename(folder / "train")
    placed(folder / "test" / "10.png", 99)
    table(folder, TABLES["numbers for files"], "trainLabels.csv")
    table(folder, TABLES["numbers for files"], "sample_submission.csv")
    assert levels(read_data(folder)) == [20, 10, 30]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{place} images/{at}.png\n" for place, (at, _) in enumerate(ROWS, 1)),
        "id,label\n" + "".join(f"{at + 1},{name}\n" for at, name in ROWS),
        "Read about the image path before use\n",
    ],
    ids=["a list with numbers of its rows", "files that are not there", "prose"],
)
def test_what_only_looks_like_a_table(folder, text):
    table(folder, text, "notes.txt")
    with pytest.raises(DataError, match=r"got one folder 'images' beside notes\.txt, which cannot be read"):
        read_data(folder)


def test_json_lines_with_a_split(folder):
    rows = [
        {"file_name": f"{level}.png", "label": "a", "split": split}
        for level, split in ((10, "train"), (20, "test"), (30, "Training"))
    ]
    table(folder, "\n".join(map(json.dumps, rows)), "metadata.jsonl")
    assert sorted(splits_of(folder)) == ["test", "train"]
    assert levels(read_data(folder, split="train")) == [10, 30]
    assert levels(read_data(folder)) == [20]


def test_a_table_for_each_split(folder):
    table(folder, "path,label\n10.png,0\n", "train.csv")
    table(folder, "path,label\n20.png,1\n", "test_labels.csv")
    assert sorted(splits_of(folder)) == ["test", "train"]
    assert levels(read_data(folder, split="train")) == [10]
    before = data_digest(folder)
    table(folder, "path,label\n10.png,1\n", "train.csv")
    assert data_digest(folder) != before
    table(folder, "path,label\n20.png,1\n", "more.csv")
    with pytest.raises(DataError, match=r"expected one table of pictures, got more\.csv, test_labels\.csv, "):
        read_data(folder)


@pytest.mark.parametrize(
    "name", ["/etc/hosts.png", "../secret.png", "images/../../x.png", "C:\\x.png", "..\\x"]
)
def test_files_outside_of_the_folder_are_refused(folder, name):
    path = table(folder, f"path,label\n10.png,a\n{name},b\n")
    with pytest.raises(DataError, match=r"row 2: expected a picture within the table's folder, got "):
        read_data(path)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    (folder / "images" / "40.png").symlink_to(placed(tmp_path / "secret.png", 99))
    path = table(folder, "path,label\n40.png,a\n")
    with pytest.raises(Exception, match="got a link that leads out of it"):
        read_data(path)


def test_what_is_not_there_is_skipped_and_listed(folder):
    data = read_data(table(folder, "path,label\n10.png,a\nnone.png,b\n30.png,b\n"))
    assert (levels(data), data.labels.tolist()) == ([10, 30], [0, 1])
    assert "none.png cannot be read" in data.skipped[0]


def test_rows_without_a_label_or_a_file(folder):
    path = table(folder, "path,label\n10.png,\n20.png,b\n")
    with pytest.raises(LabelError, match="expected a label in each row, got 1 of 2 without"):
        read_data(path)
    assert len(read_data(path, unlabelled=True)) == 2
    with pytest.raises(DataError, match="row 1: expected a file, got none"):
        read_data(table(folder, "path,label\n,a\n"))


def test_one_folder_of_pictures_beside_an_unknown_table_is_refused(folder):
    table(folder, "number,kind\n10,a\n")
    with pytest.raises(DataError, match=r"got one folder 'images' beside labels\.csv, which cannot be read"):
        read_data(folder)
    assert len(read_data(folder, unlabelled=True)) == 3


@pytest.mark.parametrize(
    "text", ["path,label\nx.png,1\n", '{"path": 3, "label": 1}\n', '{"path": "a", "label": 1}\n[1]\n']
)
def test_damaged_tables_end_in_an_error_of_ours(folder, text):
    with pytest.raises(DataError):
        read_data(table(folder, text), strict=True)
