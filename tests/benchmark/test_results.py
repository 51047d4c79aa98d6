import json

import pytest

from detrojan.benchmark.results import SCHEMA, order_rows, read_rows
from detrojan.errors import DataError, InputError

ROW = {
    "schema": SCHEMA,
    "data": "signs",
    "network": "cnn",
    "attack": "badnets",
    "defence": "none",
    "profile": "cpu",
    "status": "done",
    "cell": "ab",
    "seed": 0,
}


def written(path, *rows, end="\n"):
    path.write_text("\n".join(json.dumps(row) for row in rows) + end)
    return path


def test_the_last_row_of_a_cell_counts_and_a_line_that_was_cut_off_does_not(tmp_path):
    path = written(tmp_path / "r.jsonl", ROW, ROW | {"cell": "cd"}, ROW | {"seed": 1})
    rows = read_rows(path)
    assert [(row["seed"], row["cell"]) for row in rows] == [(0, "cd"), (1, "ab")]
    for cut in ('{"sch', json.dumps(ROW)[:50]):
        path.write_text(json.dumps(ROW) + "\n" + cut)
        assert len(read_rows(path)) == 1


def test_a_whole_last_row_needs_no_end_of_line(tmp_path):
    assert len(read_rows(written(tmp_path / "r.jsonl", ROW, ROW | {"seed": 1}, end=""))) == 2
    path = written(tmp_path / "other.jsonl", ROW, ROW | {"schema": "detrojan.scan/1"}, end="")
    with pytest.raises(
        DataError, match=r"line 2: expected the schema detrojan.bench/1, got 'detrojan.scan/1'"
    ):
        read_rows(path)


@pytest.mark.parametrize(
    "text", ["my notes", "my notes\n", "{", "x\n" + json.dumps(ROW) + "\n", "[" * 100_000]
)
def test_what_is_no_json_is_told(tmp_path, text):
    (tmp_path / "r.jsonl").write_text(text)
    if text == "{":  # as little as this may be a row whose writing was stopped
        assert read_rows(tmp_path / "r.jsonl") == []
        return
    with pytest.raises(DataError, match="line 1 is no JSON"):
        read_rows(tmp_path / "r.jsonl")


def test_other_files_are_told(tmp_path):
    (tmp_path / "r.bin").write_bytes(b"\x80\x02\xff\x00" * 50)
    with pytest.raises(DataError, match="expected JSON lines of the bench, got a file that is no text"):
        read_rows(tmp_path / "r.bin")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": "detrojan.scan/1"}, "expected the schema detrojan.bench/1, got 'detrojan.scan/1'"),
        ({"attack": ["a"]}, r"expected the text attack in a row, got \['a'\]"),
        ({"cell": None}, "expected the text cell in a row, got None"),
        ({"seed": [1]}, r"expected the whole number seed in a row, got \[1\]"),
        ({"plan": ["p"]}, r"expected plan to be an object in a row, got \['p'\]"),
        ({"figures": "x"}, "expected figures to be an object in a row, got 'x'"),
        ({"seconds": {"twin": "long"}}, "expected numbers in seconds, got {'twin': 'long'}"),
        ({"figures": {"ca": float("nan")}}, "is no JSON: expected finite numbers, got NaN"),
        ({"figures": {"ca": 10**400}}, "is no JSON: expected finite numbers, got 1000"),
    ],
)
def test_a_row_of_other_types_is_told(tmp_path, change, text):
    with pytest.raises(DataError, match=text):
        read_rows(written(tmp_path / "r.jsonl", ROW | change))


def test_a_number_beyond_what_a_float_holds_is_told(tmp_path):
    path = written(tmp_path / "r.jsonl", ROW | {"figures": {"ca": 0.125}})
    path.write_text(path.read_text().replace("0.125", "1e999"))
    with pytest.raises(DataError, match="expected finite numbers, got 1e999"):
        read_rows(path)


def test_rows_come_into_the_order_of_the_cells_and_other_lines_stay(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [json.dumps({"cell": cell, "n": n}) + "\n" for n, cell in enumerate("cxbab")]
    path.write_text("".join(lines))
    order_rows(path, ["a", "b", "c"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["cell"] for row in rows] == ["a", "x", "b", "b", "c"]
    assert [row["n"] for row in rows] == [3, 1, 2, 4, 0]
