"""Where a result came from: commit, device, threads, versions, and the very code that made it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

_PACKAGE = "detrojan"


def surroundings(device: str) -> dict[str, Any]:
    """Return commit, device, threads and versions, as plain values."""
    commit, changed = _commit()
    kind = torch.device(device).type
    return {
        "commit": commit,
        "changed_since_commit": changed,
        "device": device,
        "device_name": torch.cuda.get_device_name(device)
        if kind == "cuda"
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@cache
def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that this code lies in, and whether its sources were changed."""
    folder = Path(__file__).resolve().parent
    git = shutil.which("git")
    if git is None:
        return None, None

    def ask(*words: str) -> str | None:
        done = subprocess.run(  # noqa: S603 - fixed words
            [git, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit, status = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--", "..")
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    return commit, None if status is None else bool(status)


def code_digest(modules: Iterable[str]) -> str:
    """Return a digest of the code of modules and of all of this package's code that they import.

    Comments and docstrings do not count: what they say changes no result.
    """
    total = hashlib.sha256()
    for name, digest in sorted((name, _module_digest(name)) for name in _closure(frozenset(modules))):
        total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


@cache
def _closure(modules: frozenset[str]) -> frozenset[str]:
    seen: set[str] = set()
    open_ = set(modules)
    while open_:
        name = open_.pop()
        seen.add(name)
        open_ |= set(_imports(name)) - seen
    return frozenset(seen)


@cache
def _tree(module: str) -> ast.Module | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text("utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    tree = _tree(module)
    return () if tree is None else tuple(sorted(set(_imported(tree))))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith(f"{_PACKAGE}.") and _tree(name) is not None:
                yield name


@cache
def _module_digest(module: str) -> str:
    tree = _tree(module)
    if tree is None:
        return ""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, holders) and body and ast.get_docstring(node, clean=False) is not None:
            body[0] = ast.Pass()
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
