"""The package's public names are there, come from where they live, and cost nothing before use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import detrojan


@pytest.mark.parametrize("name", [name for name in detrojan.__all__ if name != "__version__"])
def test_each_public_name_is_what_its_module_calls_so(name: str) -> None:
    found = getattr(detrojan, name)
    assert found.__name__ == name
    assert found.__module__ == detrojan._HOMES[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = detrojan.nothing


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, detrojan; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
