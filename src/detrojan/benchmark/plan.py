"""What a plan file says: which data sets, networks, attacks, defences and seeds meet, and how."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from detrojan.benchmark.parts import (
    NONE,
    AttackPlan,
    Cell,
    DataPlan,
    DefencePlan,
    Grid,
    NetworkPlan,
    Part,
    Reference,
    Sizes,
)
from detrojan.errors import InputError, OptionError

_TABLES = ("data", "networks", "attacks", "defences")
#: a plan is written by hand
_MOST_BYTES = 1 << 20


class Plan(Part):
    """A plan in one profile."""

    name: str
    title: str
    about: str = ""
    seeds: tuple[int, ...] = (0,)
    profile: str = ""
    sizes: Sizes = Sizes()
    data: dict[str, DataPlan] = Field(min_length=1)
    networks: dict[str, NetworkPlan] = Field(min_length=1)
    attacks: dict[str, AttackPlan] = Field(default_factory=dict)
    defences: dict[str, DefencePlan] = Field(default_factory=dict)
    grid: tuple[Grid, ...] = (Grid(),)
    reference: tuple[Reference, ...] = ()
    sha256: str = ""
    folder: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for number, grid in enumerate(self.grid):
            for table in _TABLES:
                known = self.names(table)
                for name in getattr(grid, table):
                    if name not in known:
                        raise ValueError(
                            f"grid {number}: expected {table} out of {', '.join(known)}, got {name!r}"
                        )
        for name, defence in self.defences.items():
            scan = self.defences.get(defence.findings)
            if defence.findings not in {NONE, "original"} and (scan is None or scan.room != "scans"):
                raise ValueError(
                    f"defences.{name}.findings: expected none, original or a scan's name, "
                    f"got {defence.findings!r}"
                )
        return self

    def names(self, table: str) -> tuple[str, ...]:
        """Return the names in one of the four tables; without an attack and a defence is among them."""
        stated = tuple(getattr(self, table))
        return (NONE, *stated) if table in {"attacks", "defences"} else stated

    def cells(self) -> list[Cell]:
        """Return every combination once, ordered such that what is trained is used while it is at hand."""
        found: dict[Cell, None] = {}
        for grid in self.grid:
            chosen = {table: getattr(grid, table) or self.names(table) for table in _TABLES}
            for data in chosen["data"]:
                for seed in self.seeds:
                    for network in chosen["networks"]:
                        for attack in chosen["attacks"]:
                            for defence in chosen["defences"]:
                                cell = Cell(
                                    data=data, network=network, attack=attack, defence=defence, seed=seed
                                )
                                found[cell] = None
        return list(found)

    def referred(self, cell: Cell) -> dict[str, Any] | None:
        """Return what a document says about a cell, as shares, with its source; None if none does."""
        for reference in self.reference:
            figures = reference.cells.get(f"{cell.data}/{cell.attack}/{cell.defence}")
            if figures is not None:
                scale = 100 if reference.unit == "percent" else 1
                return {"source": reference.source, **{k: v / scale for k, v in figures.items()}}
        return None


def load_plan(path: str | Path, profile: str) -> Plan:
    """Read a plan file for one of its profiles.

    A part's table may hold a table `profile.NAME`, whose values go before its own in that profile. With
    `extends = "OTHER.toml"` a plan has everything that the other plan, beside it, has, and its own values go
    before the other's; its own grids and references take the place of the other's.

    Args:
        path: the TOML file.
        profile: the name of the profile, e.g. "cpu" or "full".

    Raises:
        InputError: the file cannot be read.
        OptionError: it is no TOML, or says something that makes no sense; the message says where.

    """
    path = Path(path)
    stated, content = _read(path)
    if "extends" in stated:
        base, more = _read(_base(path, stated.pop("extends")))
        if "extends" in base:
            raise OptionError(f"{path}: expected a plan to extend that extends none itself")
        stated, content = _merged(base, stated), content + more
    profiles = stated.pop("profiles", {})
    if not isinstance(profiles, dict) or profile not in profiles:
        known = ", ".join(profiles) if isinstance(profiles, dict) else ""
        raise OptionError(f"{path}: expected a profile out of {known or '(none)'}, got {profile!r}")
    forbidden = {"profile", "sizes", "sha256", "folder"} & stated.keys()
    if forbidden:
        raise OptionError(f"{path}: expected no {min(forbidden)!r} in a plan")
    for table in _TABLES:
        stated[table] = _in_profile(stated.get(table, {}), profile)
    try:
        return Plan(
            **{"name": path.stem, "title": path.stem, **stated},
            profile=profile,
            sizes=profiles[profile],
            sha256=hashlib.sha256(content).hexdigest(),
            folder=str(path.parent),
        )
    except ValidationError as error:
        raise OptionError("\n".join(f"{path}: {line}" for line in _lines(error))) from error


def _base(path: Path, name: object) -> Path:
    """Return the plan that the one at `path` extends."""
    if not isinstance(name, str):
        raise OptionError(f"{path}: expected the name of a plan file to extend, got {name!r}")
    return path.parent / name


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return what a plan file says, and its bytes."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: expected a plan of at most {_MOST_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the plan {path} cannot be read: {error.strerror or error}") from error
    try:
        return tomllib.loads(content.decode("utf-8")), content
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(f"{path} is no TOML: {error}") from error


def _in_profile(table: Any, profile: str) -> Any:
    if not isinstance(table, dict):
        return table
    found = {}
    for name, entry in table.items():
        if not isinstance(entry, dict):
            found[name] = entry
            continue
        own = {key: value for key, value in entry.items() if key != "profile"}
        overrides = entry.get("profile", {})
        more = overrides.get(profile, {}) if isinstance(overrides, dict) else {}
        found[name] = _merged(own, more)
    return found


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _lines(error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = "no such setting"
        got = "" if item["type"] in {"value_error", "missing"} else f", got {item['input']!r:.80}"
        yield f"{place}: {text}{got}" if place else f"{text}{got}"
