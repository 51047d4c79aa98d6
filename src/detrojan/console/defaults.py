"""Defaults out of a file: what a person would otherwise state with every call.

`detrojan.toml` in the working folder goes before the one in the user's configuration folder, and the
call's own options go before both. A table names a verb; `[all]` is for every verb that has the option::

    [all]
    data = "photos/"
    input-range = "0-255"

    [scan]
    budget = 600
    set = ["samples=500"]

    [guard.calibrate]
    frr = 0.005
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from detrojan.errors import InputError, OptionError

NAME = "detrojan.toml"
#: the environment's word for a file that is read instead of the usual ones; an empty one means none
VARIABLE = "DETROJAN_CONFIG"
#: these run code, so that only the call itself can state them
NEVER = {"allow-unsafe", "factory"}
#: a file of settings is not longer
MOST_BYTES = 100_000

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What files say for one call.

    Attributes:
        values: click's `default_map` for the verb: values by parameter, and a map for each verb below it.
        words: the same as words of a command line, for the report, without what the call states itself.
        files: where they were said.

    """

    values: Values
    words: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def files() -> list[Path]:
    """Return the files that are read, the weightiest last.

    Raises:
        InputError: the environment names a file that is not there.

    """
    stated = os.environ.get(VARIABLE)
    if stated is not None:
        if stated and not Path(stated).is_file():
            raise InputError(f"expected a file of defaults in {VARIABLE}, got {stated}, which is none")
        return [Path(stated)] if stated else []
    from platformdirs import user_config_path  # noqa: PLC0415 - `--help` shall be fast

    return [path for path in (user_config_path("detrojan") / NAME, Path(NAME)) if path.is_file()]


def read(path: Path) -> dict[str, Any]:
    """Return what a file of defaults says.

    Raises:
        InputError: it cannot be read, or is no TOML.

    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: expected at most {MOST_BYTES:,} bytes of defaults")
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a TOML file of defaults: {error}") from error


def defaults_for(verb: str, command: click.Command, args: Sequence[str], verbs: Sequence[str]) -> Defaults:
    """Return the defaults of one call.

    Args:
        verb: its name.
        command: the verb, or the group of verbs.
        args: the words that follow it.
        verbs: all verbs, which files may have tables for.

    Raises:
        InputError: a file that cannot be read.
        OptionError: a file that names what is not there, or what only a call may state.

    """
    found = files()
    values: dict[str, Any] = {}
    for path in found:
        said = read(path)
        _check_verbs(said, path, verbs)
        general = _table(said, "all", path)
        _merge(values, _of_command(command, _table(said, verb, path), general, path, verb))
    words = _words(command, values, args)
    return Defaults(values=values, words=tuple(words), files=tuple(found) if values else ())


def _check_verbs(said: Values, path: Path, verbs: Sequence[str]) -> None:
    for name in said:
        if name not in {"all", *verbs}:
            raise OptionError(f"{path}: expected tables {_likely(name, ['all', *verbs])}, got [{name}]")


def _table(said: Values, name: str, path: Path) -> Values:
    table = said.get(name, {})
    if not isinstance(table, dict):
        raise OptionError(f"{path}: expected [{name}] to be a table, got {name} = {table!r}")
    return table


def _of_command(
    command: click.Command, own: Values, general: Values, path: Path, where: str
) -> dict[str, Any]:
    """Return values by parameter; what is said for all verbs counts where a verb has such an option."""
    options = {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
    below = command.commands if isinstance(command, click.Group) else {}
    values: dict[str, Any] = {}
    for said, must in ((general, False), (own, True)):
        for written, value in said.items():
            name = written.replace("_", "-")
            if name in NEVER:
                raise OptionError(f"{path}: expected --{name} with the call itself, since it runs code")
            if name in options:
                option = options[name]
                values[str(option.name)] = _value(option, name, value)
            elif must and name not in below:
                raise OptionError(
                    f"{path}: expected in [{where}] {_likely(name, [*options, *below])}, got {written}"
                )
    for name, part in below.items():
        values[name] = _of_command(part, _table(own, name, path), general, path, f"{where}.{name}")
    return values


def _value(option: click.Option, name: str, value: Any) -> Any:
    """Return a value as click takes it from a command line."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise OptionError(f"expected {name} = true or false, got {value!r}")
        return value is not (f"--{name}" in option.secondary_opts)
    if option.multiple:
        if isinstance(value, dict):  # [scan.set] with one line per hyper-parameter
            value = [f"{key}={_text(one)}" for key, one in value.items()]
        return [_text(one) for one in (value if isinstance(value, list) else [value])]
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    if isinstance(value, dict):
        raise OptionError(f"expected a value, got the table {value!r}")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _merge(into: dict[str, Any], more: Values) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _words(command: click.Command, values: Values, args: Sequence[str]) -> list[str]:
    """Return the defaults as words, without options that the call states itself."""
    if isinstance(command, click.Group):
        part = next((word for word in args if word in command.commands), None)
        return [] if part is None else _words(command.commands[part], values.get(part, {}), args)
    stated = {word.partition("=")[0] for word in args}
    words = []
    for option in command.params:
        if option.name not in values or stated & {*option.opts, *option.secondary_opts}:
            continue
        value, name = values[option.name], option.opts[-1]
        if isinstance(option, click.Option) and option.is_flag:
            words += [name] if value else list(option.secondary_opts[-1:])
        else:
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (name, one)]
    return words


def _likely(name: str, known: Sequence[str]) -> str:
    """Return the nearest names, or all of them where none is near."""
    near = difflib.get_close_matches(name, known, 3)
    return "one of " + ", ".join(near or known)
