"""A missing optional library is answered with the command that installs it."""

import json
import sys

import pytest

from detrojan.errors import MissingExtraError
from detrojan.extras import require


def test_what_is_installed_is_imported():
    assert require("json", extra="x", what="tests") is json


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.part"])
def test_what_is_missing_names_the_command(module):
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra="onnx", what="ONNX files")
    assert str(caught.value) == (
        "no_such_library is not installed, which ONNX files need; "
        'install it with: pip install "detrojan[onnx]"'
    )


def test_a_library_that_lacks_another_one_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        require("half_there", extra="x", what="tests")
    sys.modules.pop("half_there", None)
