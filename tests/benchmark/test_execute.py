import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from detrojan.benchmark.execute import execute
from detrojan.benchmark.making import Workshop
from detrojan.benchmark.results import add_rows, read_rows, start_rows
from detrojan.errors import DataError, InputError, OptionError
from detrojan.runner.processes import Processes


def test_an_attack_succeeds_a_defence_helps_and_the_row_says_where_it_came_from(bench):
    summary, rows = bench.run()
    assert (summary.done, summary.kept, summary.skipped, summary.failed) == (5, 0, 1, ())
    attacked, repaired = rows["badnets", "none"], rows["badnets", "unlearn"]
    assert attacked["figures"]["asr"] > 0.8
    assert attacked["twin"]["asr"] < 0.2
    assert attacked["figures"]["ca"] > attacked["twin"]["ca"] - 0.05
    assert repaired["figures"]["asr"] < 0.1
    assert repaired["figures"]["n_plus_one_caught"] > 0.8
    assert repaired["subject"] == attacked["figures"]
    assert repaired["reference"] == {"source": "a document", "ca": 0.975, "asr": 0.0125}
    assert rows["none", "unlearn"]["status"] == "not applicable"
    assert attacked["images"] == {"train": 600, "clean": 100, "test": 120}
    assert attacked["poisoned"] == 120
    origin = attacked["provenance"]
    assert origin["torch"]
    assert origin["device"] == "cpu"
    assert origin["seconds"] > 0
    assert attacked["plan"]["sha256"] == bench.plan().sha256
    assert attacked["settings"]["attack"]["hyper_parameters"]["poison_rate"] == 0.2


def brief(text):
    """Return a plan whose networks learn next to nothing, for what asks no effect of them."""
    return text.replace("train = 600", "train = 120").replace("epochs = 12", "epochs = 1")


def trained(monkeypatch):
    """Count the trainings."""
    count = []
    real = Workshop._trained

    def counted(self, cell, data, run, title):
        count.append(title)
        return real(self, cell, data, run, title)

    monkeypatch.setattr(Workshop, "_trained", counted)
    return count


def test_nothing_is_computed_twice(bench, monkeypatch):
    count = trained(monkeypatch)
    bench.run()
    assert len(count) == 2
    before = bench.out.read_bytes()
    summary, _ = bench.run()
    assert (summary.done, summary.kept) == (0, 6)
    assert bench.out.read_bytes() == before
    bench.out.unlink()
    _, again = bench.run()
    assert len(count) == 2, "the networks come out of the cache"
    assert again["badnets", "unlearn"]["figures"]["asr"] < 0.1


def test_networks_of_another_precision_are_others(bench, plan_text, monkeypatch):
    count = trained(monkeypatch)
    short = plan_text + '\n[[grid]]\nattacks = ["badnets"]\ndefences = ["none"]\n'
    _, before = bench.run(short)
    workshop = bench.workshop(short)
    workshop.mixed_precision = True
    assert execute(workshop, bench.out).done == 1
    assert len(count) == 4
    mixed = next(row for row in read_rows(bench.out))
    assert mixed["settings"]["mixed_precision"] is True
    assert mixed["figures"]["asr"] > 0.8
    assert mixed["cell"] != before["badnets", "none"]["cell"]


def test_what_a_result_depends_on_makes_it_anew_and_nothing_else(bench, plan_text, monkeypatch):
    count, text = trained(monkeypatch), plan_text.replace("train = 600", "train = 200")
    bench.run(text)
    bench.run(text.replace('title = "Blobs"', 'title = "More blobs"'))
    assert len(count) == 2
    bench.run(text.replace("epochs = 8", "epochs = 9"))  # of a repair
    assert len(count) == 2
    bench.run(text.replace("poison_rate = 0.2", "poison_rate = 0.1"))
    assert len(count) == 3
    images = np.load(bench.folder / "blobs.npz")
    np.savez(bench.folder / "blobs.npz", **{k: images[k][:-1] for k in images.files})
    bench.run(text)
    assert len(count) == 5


def test_results_of_other_code_count_only_where_asked_for(bench, plan_text, monkeypatch):
    short = brief(plan_text) + '\n[[grid]]\nattacks = ["none"]\ndefences = ["none"]\n'
    bench.run(short)
    monkeypatch.setattr("detrojan.benchmark.making.code_digest", lambda modules: "other")
    assert bench.run(short, any_code=True)[0].kept == 1
    assert bench.run(short)[0].done == 1


def test_a_damaged_cache_is_made_again(bench, plan_text, monkeypatch):
    count = trained(monkeypatch)
    short = brief(plan_text) + '\n[[grid]]\nattacks = ["badnets"]\ndefences = ["none"]\n'
    _, first = bench.run(short)
    bench.out.unlink()
    for path in bench.folder.glob("cache/attack-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    for path in bench.folder.glob("cache/twin-*/made.json"):
        path.write_text("{")
    _, rows = bench.run(short)
    assert len(count) == 4
    assert rows["badnets", "none"]["figures"] == first["badnets", "none"]["figures"]


def test_a_killed_run_goes_on_and_gives_what_it_would_have_given(bench, plan_text, tmp_path):
    text = brief(plan_text) + '\n[[grid]]\ndefences = ["none", "finetune"]\n'
    bench.plan(text)
    words = ["bench", "run", tmp_path / "plan.toml", "--data", f"blobs={tmp_path / 'blobs.npz'}"]
    words += ["--profile", "cpu", "--out", bench.out, "--cache", tmp_path / "cache", "--threads", "1"]
    code = "from detrojan.cli.main import main; main()"
    killed = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (bench.out.exists() and bench.out.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    first = bench.out.read_text()
    with bench.out.open("a") as file:
        file.write('{"schema": "detrojan.bench/1", "cell": "cut o')
    summary, resumed = bench.run(text)
    assert summary.kept >= 2
    assert summary.failed == ()
    assert bench.out.read_text().startswith(first[: first.rfind("\n") + 1])
    assert len(bench.out.read_text().splitlines()) == 4
    bench.out.unlink()
    for place in bench.folder.glob("cache/*-*"):
        shutil.rmtree(place)
    _, at_once = bench.run(text)
    assert [(row["cell"], row["figures"]) for row in resumed.values()] == [
        (row["cell"], row["figures"]) for row in at_once.values()
    ]


def test_a_failing_cell_is_told_and_tried_again(bench, plan_text):
    wrong = brief(plan_text).replace("set = { epochs = 2 }", "set = { epochs = 2, batch_size = 3 }")
    broken = wrong.replace('method = "finetune"', 'method = "activation_pruning"').replace(
        "set = { epochs = 2, batch_size = 3 }", "set = { layer = 'nothing' }"
    )
    text = broken + '\n[[grid]]\nattacks = ["badnets"]\ndefences = ["finetune"]\n'
    for _ in range(2):
        summary, rows = bench.run(text)
        assert len(summary.failed) == 1
        assert "expected a layer out of" in rows["badnets", "finetune"]["reason"]


def test_a_part_of_the_plan_can_be_run(bench):
    summary, rows = bench.run(attacks=("none",))
    assert {attack for attack, _ in rows} == {"none"}
    assert summary.done + summary.skipped == 3
    with pytest.raises(OptionError, match="expected attacks out of none, badnets, got 'blend'"):
        bench.run(attacks=("blend",))


def test_a_data_set_that_nobody_named_is_told_before_any_training(bench):
    workshop = bench.workshop()
    workshop.paths = {}
    with pytest.raises(
        OptionError, match="expected --data blobs=PATH: the plan does not say where blobs lies"
    ):
        execute(workshop, bench.out)


def test_a_results_file_is_never_damaged_and_a_foreign_file_never_touched(tmp_path):
    path = tmp_path / "r.jsonl"
    row = dict.fromkeys(("data", "network", "attack", "defence", "profile", "status", "cell"), "x") | {
        "seed": 1
    }
    add_rows(path, [{**row, "figures": {"a": float("nan")}}])
    assert json.loads(path.read_text())["figures"] == {"a": None}
    assert len(start_rows(path)) == 1
    other = tmp_path / "notes.txt"
    for text in ("my notes", '{"a": 1}\n', "[]\n"):
        other.write_text(text)
        with pytest.raises(DataError, match=r"is no results file|no JSON|expected the schema"):
            start_rows(other)
        assert other.read_text() == text
    whole = path.read_text()
    for cut in ('{"sch', whole[:60]):
        path.write_text(whole + cut)
        assert len(start_rows(path)) == 1
        assert path.read_text() == whole
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "nothing")


def test_cells_side_by_side_give_the_same_rows_and_train_each_network_once(bench, plan_text):
    short = brief(plan_text) + '\n[[grid]]\nattacks = ["none", "badnets"]\ndefences = ["none"]\n'
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, alone = bench.run(short)
        before = bench.out.read_text()
        bench.out.unlink()
        for place in bench.folder.glob("cache/*-*"):
            shutil.rmtree(place)
        summary, beside = bench.run(short, engine=Processes(2))
    finally:
        torch.set_num_threads(threads)
    assert (summary.done, summary.failed) == (2, ())
    assert [without_times(row) for row in beside.values()] == [without_times(row) for row in alone.values()]
    assert [json.loads(line)["cell"] for line in bench.out.read_text().splitlines()] == [
        json.loads(line)["cell"] for line in before.splitlines()
    ]
    trained = [json.loads(path.read_text()) for path in bench.folder.glob("cache/*/made.json")]
    assert len(trained) == 2, "the twin and the attacked network"
    assert len({row["seconds"]["twin"] for row in beside.values()}) == 1, "trained by one, read by the other"


def without_times(row):
    """Return a row without what a clock and the checkout say."""
    same = {"seconds": 0, "when": "", "commit": "", "changed_since_commit": None}
    row = {**row, "provenance": {**row["provenance"], **same}}
    return json.dumps({**row, "seconds": {}}, sort_keys=True)
