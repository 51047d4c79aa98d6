"""Limits that tests reach quickly."""

import pytest

from detrojan.quarantine import limits


@pytest.fixture
def short(monkeypatch):
    """Give a parser one second."""
    monkeypatch.setattr(limits, "_SECONDS", 1)


@pytest.fixture
def small(monkeypatch):
    """Give a parser 200 MB."""
    monkeypatch.setenv(limits.VARIABLE, "200000000")


@pytest.fixture
def file(tmp_path):
    """Return a file of a few bytes."""
    path = tmp_path / "strange.bin"
    path.write_bytes(b"some bytes")
    return path
