from __future__ import annotations

import torch

from detrojan.errors import MissingExtraError, ModelError, UnsafeFileError
from detrojan.jobs.fleet.looking import Look, Problem, content_of, look, problem_of
from detrojan.jobs.sources import ModelSource
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.report.records.fleet import FirstLook
from detrojan.run import Run


def seen(path):
    return look(Run(), Look(name="m", source=ModelSource(model=path)))


def test_a_first_look_names_the_row_that_stands_apart(tmp_path):
    model = start_net("mnist_cnn", (1, 20, 20), classes=12, run=Run(seed=2))
    save_model(model, tmp_path / "usual.safetensors")
    with torch.no_grad():
        model.module(model.head).weight[7] += 0.5
    save_model(model, tmp_path / "odd.safetensors")
    usual, odd = seen(tmp_path / "usual.safetensors"), seen(tmp_path / "odd.safetensors")
    assert isinstance(odd, FirstLook)
    assert (odd.label, odd.classes, odd.net) == (7, 12, "mnist_cnn")
    assert odd.p_value < 1e-3 < usual.p_value


def test_what_cannot_be_judged_has_a_reason(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    (tmp_path / "b.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    found = [seen(tmp_path / name) for name in ("a.pt", "b.safetensors", "c.pt")]
    assert all(isinstance(one, Problem) and one.reason for one in found)
    assert found[0].category == "unsupported"
    assert "is empty" in found[0].reason


def test_the_kind_of_an_error_is_the_category():
    said = [problem_of(error, "unreadable").category for error in (
        UnsafeFileError("x"), MissingExtraError("keras", "keras"), ModelError("x"),
    )]  # fmt: skip
    assert said == ["unsafe", "library", "unreadable"]


def test_the_content_of_a_file_is_its_digest_and_size(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest, size = content_of(tmp_path / "a")
    assert digest.startswith("ba7816bf")
    assert size == 3
