"""The README's example in Python runs as it stands, and its completion is what the shell gets."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from detrojan.models.writing import save_model
from prose import ROOT


@pytest.fixture(scope="module")
def example() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) > 1, "expected the example of the demo, then others"
    return found[0]


def test_the_example_needs_one_line_of_imports(example):
    assert re.findall(r"^(?:from|import) .*", example, re.MULTILINE) == [example.partition("\n")[0]]
    assert example.startswith("import detrojan\n")


def test_the_example_finds_the_backdoor(example, large_twins, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    save_model(large_twins.backdoored, "demo/suspect.safetensors")
    exec(compile(example, "README.md", "exec"), {})
    verdict, reason = capsys.readouterr().out.splitlines()
    assert verdict == "backdoored [3]"
    assert "label 3" in reason


def test_the_shell_completes_verbs():
    environment = os.environ | {
        "COMP_WORDS": "detrojan sc",
        "COMP_CWORD": "1",
        "_DETROJAN_COMPLETE": "bash_complete",
    }
    code = "from detrojan.cli.main import main; main(prog_name='detrojan')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plain,scan"], done.stderr
