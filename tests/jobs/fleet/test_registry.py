from __future__ import annotations

import sys

import pytest

from detrojan.errors import InputError, MissingExtraError, OptionError
from detrojan.jobs.fleet.finding import find_models
from detrojan.jobs.fleet.registry import is_registry, registered


def test_a_registry_is_known_by_its_word():
    assert is_registry("mlflow:http://host:5000#doors")
    assert not is_registry("mlflow/models")


@pytest.mark.parametrize("target", ["mlflow:", "mlflow:#a", "mlflow:http://h#", "mlflow:http://u:pw@h#a/b"])
def test_a_registry_that_is_spelled_wrongly_is_an_error_without_a_login(target):
    with pytest.raises(OptionError, match="expected a registry as mlflow:URI") as caught:
        registered(target)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:///{0}/none.db", "file://{0}/none", "{0}/none"])
def test_no_store_is_made_where_there_is_none(tmp_path, uri):
    with pytest.raises(InputError, match="does not exist"):
        find_models([f"mlflow:{uri.format(tmp_path)}"])
    assert list(tmp_path.iterdir()) == []


def test_without_mlflow_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "detrojan\[mlflow\]"'):
        registered("mlflow:http://127.0.0.1:1")
