from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from detrojan.cli.guard import command as guard
from detrojan.cli.scan import command as scan
from detrojan.console.defaults import defaults_for as read_defaults


def defaults_for(verb, command, args):
    return read_defaults(verb, command, args, ["scan", "guard"])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Stand in an empty folder, with no defaults elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DETROJAN_CONFIG", raising=False)
    return tmp_path


def write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detrojan.toml").write_text(text)


def test_without_a_file_there_are_no_defaults(here):
    assert defaults_for("scan", scan, []).values == {}


def test_a_verb_takes_its_table_and_what_is_for_all(here):
    write(here, '[all]\ndata = "photos"\nfrr = 0.02\n[scan]\ninput-range = [0, 255]\nbudget = 60\n')
    said = defaults_for("scan", scan, ["model.pt", "--budget", "5"])
    assert said.values == {"data": "photos", "input_range": "0,255", "budget": "60"}
    assert sorted(said.words) == sorted(("--data", "photos", "--input-range", "0,255"))
    assert said.files == (Path("detrojan.toml"),)


def test_a_file_of_windows_begins_with_a_mark(here):
    (here / "detrojan.toml").write_text("[scan]\nbudget = 60\n", encoding="utf-8-sig")
    assert defaults_for("scan", scan, []).values == {"budget": "60"}


def test_the_folders_file_goes_before_the_users(here):
    write(here / "config" / "detrojan", '[scan]\nmethod = "mm_bd"\nsamples = 50\n')
    write(here, '[scan]\nmethod = "k_arm"\n')
    assert defaults_for("scan", scan, []).values == {"method": "k_arm", "samples": "50"}


def test_the_environment_names_another_file_or_none(here, monkeypatch):
    write(here, '[scan]\nmethod = "k_arm"\n')
    (here / "other.toml").write_text("[scan]\nseed = 4\n")
    monkeypatch.setenv("DETROJAN_CONFIG", "other.toml")
    assert defaults_for("scan", scan, []).values == {"seed": "4"}
    monkeypatch.setenv("DETROJAN_CONFIG", "")
    assert defaults_for("scan", scan, []).values == {}


def test_verbs_below_a_verb_have_tables_of_their_own(here):
    write(here, '[all]\nseed = 2\n[guard.calibrate]\nfrr = 0.005\nset = { copies = 20, mode = "add" }\n')
    said = defaults_for("guard", guard, ["calibrate", "model.pt"])
    assert said.values["calibrate"] == {"seed": "2", "frr": "0.005", "settings": ["copies=20", "mode=add"]}
    assert said.values["check"]["seed"] == "2"
    words = " ".join(said.words)
    assert all(part in words for part in ("--seed 2", "--frr 0.005", "--set copies=20 --set mode=add"))
    assert len(said.words) == 8


WRONG = [
    ("[scna]\nseed = 1\n", "expected tables one of scan, got [scna]"),
    ("[scan]\nsamplse = 1\n", "expected in [scan] one of samples, got samplse"),
    ("[all]\nallow-unsafe = true\n", "expected --allow-unsafe with the call itself, since it runs code"),
    ('[scan]\nfactory = "mine:make"\n', "expected --factory with the call itself, since it runs code"),
    ("[scan]\nunlabelled = 3\n", "expected unlabelled = true or false, got 3"),
    ("scan = 3\n", "expected [scan] to be a table, got scan = 3"),
    ("[scan\n", "detrojan.toml: expected a TOML file of defaults"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_file_is_one_clear_line(here, cli, world, text, said):
    write(here, text)
    done = cli.call("scan", world.model, "--data", world.data)
    assert done.exit_code in {2, 4}
    assert said in " ".join(done.stderr.split())
    assert "internal error" not in done.stderr


def test_a_scan_runs_by_its_file_and_its_report_says_the_whole_call(here, cli, world):
    settings = [cli.QUICK[place + 1] for place, word in enumerate(cli.QUICK) if word == "--set"]
    text = {"data": str(world.data), "method": "neural_cleanse", "set": settings, "labels": "0-5"}
    write(here, "[scan]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in text.items()))
    done = cli.call("scan", world.model, "--format", "json")
    assert done.exit_code == 1, done.output
    words = json.loads(done.stdout)["run"]["command"]
    assert words[:3] == ["detrojan", "scan", str(world.model)]
    assert words[words.index("--data") + 1] == str(world.data)
    assert "--method" in words


def test_a_home_that_cannot_be_written_costs_only_the_resumption(here, cli, world, monkeypatch):
    (here / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "file"))
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK)
    assert done.exit_code == 1, done.output
    assert "this call cannot be resumed (--checkpoint DIR names another place)" in " ".join(
        done.stderr.split()
    )
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK, "--resume")
    assert done.exit_code == 2
    assert os.linesep not in done.stderr.strip() or "--checkpoint DIR" in done.stderr
