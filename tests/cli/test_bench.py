import json
from pathlib import Path

import pytest

PLANS = Path(__file__).resolve().parents[2] / "benchmark" / "plans"


@pytest.mark.effect
def test_the_smoke_plan_runs_and_its_table_is_printed(cli, tmp_path):
    out = tmp_path / "results.jsonl"
    words = ("bench", "run", PLANS / "smoke.toml", "--profile", "cpu", "--device", "cpu")
    words += ("--attack", "badnets")
    done = cli.call(*words, "--out", out, "--cache", tmp_path / "cache")
    assert done.exit_code == 0, done.output
    assert "0 failed" in done.output
    rows = {(row["attack"], row["defence"]): row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["badnets", "none"]["figures"]["asr"] > 0.5
    assert rows["badnets", "none"]["figures"]["ca"] > 0.85
    assert rows["badnets", "unlearn_original"]["figures"]["asr"] < 0.5
    assert rows["badnets", "strip"]["figures"]["frr"] < 0.2
    again = cli.call(*words, "--out", out, "--cache", tmp_path / "cache")
    assert "0 cells computed" in again.output
    shown = cli.call("bench", "table", out, "--format", "markdown")
    assert shown.exit_code == 0
    assert "| attack | clean twin | none | finetune |" in shown.output
    page = tmp_path / "table.html"
    assert cli.call("bench", "table", out, "--format", "html", "--out", page).exit_code == 0
    assert "<td>badnets</td>" in page.read_text()


def test_wrong_calls_are_told(cli, tmp_path):
    done = cli.call("bench", "run", PLANS / "smoke.toml", "--profile", "gpu")
    assert done.exit_code == 4
    assert "expected a profile out of cpu, full, got 'gpu'" in done.output
    done = cli.call("bench", "run", PLANS / "smoke.toml", "--profile", "cpu", "--data", "cifar10")
    assert done.exit_code == 4
    assert "expected --data NAME=PATH, got 'cifar10'" in done.output
    done = cli.call("bench", "table", tmp_path / "nothing.jsonl")
    assert done.exit_code == 2
    assert "cannot be read" in done.output


@pytest.mark.parametrize("words", [("table",), ("plot", "--defence", "pruning", "--out", "p.png")])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected results, as `detrojan bench run` writes them, got none"),
        (b"garbage", "line 1 is no JSON"),
        (b"garbage\n", "line 1 is no JSON"),
        (b"\x80\x03\x00\xff", "got a file that is no text"),
        (b'{"schema": "detrojan.scan/1"}', "expected the schema detrojan.bench/1, got 'detrojan.scan/1'"),
        (None, "Is a directory"),
    ],
)
def test_what_holds_no_results_is_an_error(cli, tmp_path, words, content, text):
    path = tmp_path / "results.jsonl"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    done = cli.call("bench", words[0], path, *words[1:])
    assert done.exit_code == 2
    assert text in " ".join(done.output.split())
    assert "Traceback" not in done.output
