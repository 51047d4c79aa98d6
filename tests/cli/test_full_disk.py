"""What was found is shown before it is written, and a full disk takes nothing else away."""

import errno
import json
from pathlib import Path

import pytest

from detrojan import files


@pytest.fixture
def full(monkeypatch):
    """Return what makes the disk full for files of one ending."""

    def make(*endings):
        write = Path.write_bytes

        def refusing(path, content):
            if any(f".{ending}." in path.name for ending in endings):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, content)

        monkeypatch.setattr(files.Path, "write_bytes", refusing)

    return make


def test_a_measured_figure_is_shown_and_its_other_files_are_written(cli, world, tmp_path, full):
    full("html")
    words = ["--data", world.data, "--html", tmp_path / "page.html", "--json", tmp_path / "out.json"]
    done = cli.call("evaluate", world.model, *words)
    assert done.exit_code == 2
    assert "clean accuracy" in done.stdout
    assert "cannot write the report" in done.stderr
    assert "No space left on device" in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["clean_accuracy"] > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_verdict_is_shown_though_its_triggers_cannot_be_written(cli, world, tmp_path, monkeypatch):
    def refused(*_args, **_words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("detrojan.triggers.base.Trigger.save", refused)
    done = cli.call("scan", world.model, "--data", world.data, *cli.QUICK, "--json", tmp_path / "out.json")
    assert done.exit_code == 2
    assert done.stdout.startswith("Backdoor found: target label 3")
    assert "cannot write the trigger" in done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["verdict"] == "backdoored"
