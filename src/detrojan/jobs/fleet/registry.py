"""Lists the versions in a registry of MLflow, and fetches their files; no model is loaded by MLflow."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detrojan.errors import DetrojanError, InputError, MissingExtraError, ModelError, OptionError
from detrojan.extras import require
from detrojan.files import replacing_folder
from detrojan.jobs.fleet.artifacts import stated_weights, weights_in
from detrojan.jobs.fleet.found import Found
from detrojan.parsing.mlmodel import LARGEST, NAME
from detrojan.report.records.fleet import REGISTERED

#: what a target begins with that is a registry
_WORD = "mlflow:"
_WHAT = "registries of MLflow"
#: what holds while MLflow works, unless the caller's surroundings say otherwise: nothing is reported to its
#: makers, old registries in folders are read, and a server that is away is given up after seconds
_SURROUNDINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class _Registry:
    """A registry, and which of its versions are asked for.

    Attributes:
        uri: of the tracking server or store.
        name: of the registered model, or empty for all.
        version: a number, or empty for all.
        alias: a name for one version, or empty.

    """

    uri: str
    name: str = ""
    version: str = ""
    alias: str = ""

    @property
    def shown(self) -> str:
        """What people may read of it: no login."""
        return _without_login(self.uri)


def is_registry(target: str) -> bool:
    """Tell whether a target names a registry and not a file."""
    return target.startswith(_WORD)


def registered(target: str) -> list[Found]:
    """Return the versions of the models in a registry, by name and number; nothing is fetched yet.

    Args:
        target: `mlflow:URI`, all versions of all models; or `mlflow:URI#NAME`, `mlflow:URI#NAME/VERSION`,
            `mlflow:URI#NAME@ALIAS`.

    Raises:
        InputError: the registry cannot be read, or has no such model.
        MissingExtraError: MLflow is not installed.
        OptionError: the target is spelled wrongly.

    """
    asked = _parse(target)
    with _surroundings():
        client = _client(asked)
        try:
            versions = list(_versions(client, asked))
            found = [_found(client, asked, one) for one in versions]
        except Exception as error:  # each kind of store raises its own
            raise InputError(f"cannot read the registry {asked.shown}: {_reason(error)}") from error
    if not found:
        raise InputError(f"expected a registered model; {_without_login(target)} names nothing")
    return found


def _parse(target: str) -> _Registry:
    uri, _, rest = target.removeprefix(_WORD).partition("#")
    name, _, version = rest.partition("/")
    alias = ""
    if not version and "@" in name:
        name, _, alias = name.rpartition("@")
    wrong = not uri or ("#" in target and not name) or (bool(version) and not version.isdecimal())
    if wrong:
        raise OptionError(
            f"expected a registry as mlflow:URI, mlflow:URI#NAME, mlflow:URI#NAME/VERSION or "
            f"mlflow:URI#NAME@ALIAS, got {_without_login(target)}"
        )
    store = _local(uri) if not uri.startswith("sqlite:///") else Path(uri.removeprefix("sqlite:///"))
    if store is not None and not store.exists():  # MLflow would make a new one
        raise InputError(f"expected a registry of MLflow; {store} does not exist")
    return _Registry(uri=uri, name=name, version=version, alias=alias)


def _client(asked: _Registry) -> Any:
    tracking = require("mlflow.tracking", extra="mlflow", what=_WHAT)
    if urlsplit(asked.uri).scheme.partition("+")[0] in {"sqlite", "postgresql", "mysql", "mssql"}:
        require("sqlalchemy", extra="mlflow", what=_WHAT)
        require("alembic", extra="mlflow", what=_WHAT)
    try:
        return tracking.MlflowClient(tracking_uri=asked.uri, registry_uri=asked.uri)
    except Exception as error:  # each kind of store raises its own
        raise InputError(f"cannot read the registry {asked.shown}: {_reason(error)}") from error


def _versions(client: Any, asked: _Registry) -> Iterator[Any]:
    """Yield the versions that are asked for, in the order of names and numbers."""
    if asked.version:
        yield client.get_model_version(asked.name, asked.version)
        return
    if asked.alias:
        yield client.get_model_version_by_alias(asked.name, asked.alias)
        return
    names = [asked.name] if asked.name else sorted(one.name for one in _all(client.search_registered_models))
    for name in names:
        quote = '"' if "'" in name else "'"
        versions = _all(partial(client.search_model_versions, f"name={quote}{name}{quote}"))
        yield from sorted(versions, key=lambda one: int(one.version))


def _all(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _found(client: Any, asked: _Registry, version: Any) -> Found:
    """Return a version with what fetches it; one that is not ready has its reason instead."""
    name = f"{REGISTERED}{version.name}/{version.version}"
    key = hashlib.sha256(f"{asked.uri}\n{version.name}\n{version.version}".encode()).hexdigest()[:16]
    place = _cache() / "mlflow" / key
    if version.status not in {"READY", None}:
        return Found(name=name, path=place, problem=f"the registry says {version.status} of this version")
    location = client.get_model_version_download_uri(version.name, str(version.version))
    folder = _local(location)
    if folder is not None:
        return Found(name=name, path=folder, fetch=partial(_at, folder))
    return Found(name=name, path=place, fetch=partial(_fetch, location, asked.uri, place))


def _at(folder: Path) -> Path:
    if not folder.exists():
        raise ModelError(f"expected the artifacts in {folder}, got no such folder")
    return weights_in(folder, stated_weights(folder))


def _fetch(location: str, uri: str, place: Path) -> Path:
    """Download what is needed of a version, each time again: a store does not say whether it changed."""
    try:
        with _surroundings():
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing_folder(place) as scratch:
                stated = _download(_artifacts(location, uri), scratch)
    except Exception as error:
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, (MissingExtraError, ModelError)):
            raise
        raise InputError(f"cannot fetch {_without_login(location)}: {_reason(error)}") from error
    return weights_in(place, stated)


def _artifacts(location: str, uri: str) -> Any:
    room = require("mlflow.store.artifact.artifact_repository_registry", extra="mlflow", what=_WHAT)
    return room.get_artifact_repository(location, tracking_uri=uri, registry_uri=uri)


def _download(artifacts: Any, folder: Path) -> str:
    """Download the weights to a folder, and the file that names them; return what that says of them."""
    listed = {one.path: one for one in artifacts.list_artifacts(None)}
    if NAME not in listed:
        artifacts.download_artifacts("", dst_path=str(folder))
        return ""
    if (listed[NAME].file_size or 0) > LARGEST:
        raise ModelError(f"{NAME}: expected at most {LARGEST:,} bytes, got {listed[NAME].file_size:,}")
    artifacts.download_artifacts(NAME, dst_path=str(folder))
    stated = stated_weights(folder)
    plain = listed.get(stated)
    wanted = [stated]
    if plain is not None and not plain.is_dir:  # ONNX may keep tensors in files beside
        wanted = [path for path, one in listed.items() if not one.is_dir and path != NAME]
    for path in wanted:
        artifacts.download_artifacts(path, dst_path=str(folder))
    return stated


def _local(uri: str) -> Path | None:
    """Return the path that a URI stands for, or None where it stands for a server."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    return None if parts.scheme or uri.startswith("databricks") else Path(uri)


def _cache() -> Path:
    from platformdirs import user_cache_path  # noqa: PLC0415 - only registries need it

    return user_cache_path("detrojan")


@contextmanager
def _surroundings() -> Iterator[None]:
    """Set what MLflow reads from its surroundings, quietly, and set it back."""
    added = {name: value for name, value in _SURROUNDINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _reason(error: Exception) -> str:
    if isinstance(error, DetrojanError):
        return str(error)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _without_login(lines[0])[:300]


def _without_login(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
