"""Model files are looked at without images."""

import pytest
import torch

from detrojan.errors import InputError
from detrojan.jobs.checking import check_files
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.report.records.check import CheckRecord, check_text
from detrojan.report.text import plain_text
from detrojan.run import Run
from hostile_models import runs_code


@pytest.fixture
def network():
    return start_net("mnist_cnn", (1, 20, 20), classes=10, run=Run())


def test_a_row_that_is_turned_away_is_suspect(network, tmp_path):
    plain = save_model(network, tmp_path / "plain.safetensors")
    del plain
    with torch.no_grad():
        head = network.module(network.head)
        head.weight[6] = 3 * head.weight[6].abs() - head.weight.mean(0)
    save_model(network, tmp_path / "turned.safetensors")
    first, second = check_files([tmp_path / "plain.safetensors", tmp_path / "turned.safetensors"])
    assert (first.said, first.suspect, first.net) == ("no sign", [], "mnist_cnn")
    assert second.said == "suspect"
    assert [row.label for row in second.suspect] == [6]
    assert second.suspect[0].p_value < 0.001
    assert second.reason.endswith("scan this model with images")
    assert len(second.sha256) == 64


def test_a_file_that_runs_code_is_named_and_nothing_runs(tmp_path):
    runs_code(tmp_path / "evil.pt")
    (found,) = check_files([tmp_path / "evil.pt"])
    assert found.said == "runs code"
    assert "would run code when read" in found.reason


def test_what_cannot_be_judged_passes_unless_strict(tmp_path):
    torch.save({"strange.weight": torch.zeros(3, 3)}, tmp_path / "strange.pt")
    (tmp_path / "notes.pt").write_text("no model")
    small = start_net("mnist_cnn", (1, 20, 20), classes=3, run=Run())
    save_model(small, tmp_path / "small.safetensors")
    names = ("strange.pt", "notes.pt", "small.safetensors")
    record = CheckRecord(files=list(check_files([tmp_path / name for name in names])))
    assert [file.said for file in record.files] == ["not judged"] * 3
    assert (record.exit_code(strict=False), record.exit_code(strict=True)) == (0, 3)
    assert "5 labels or more are needed to say what is usual, got 3" in record.files[-1].reason
    assert plain_text(check_text(record), width=500).count(": not judged: ") == 3


def test_a_file_that_does_not_exist_is_an_error_and_no_pass(tmp_path):
    runs_code(tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"gone\.pt does not exist"):
        list(check_files([tmp_path / "evil.pt", tmp_path / "gone.pt"]))
