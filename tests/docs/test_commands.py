"""Commands that the documentation shows are real, and every verb shows one."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from prose import ROOT, markdown


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each `detrojan ...` and each `make ...` in the shell blocks of a page."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language not in {"", "sh", "bash", "console", "shell"}:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]
            if words and Path(words[0]).name in {"detrojan", "make"}:
                found.append([Path(words[0]).name, *words[1:]])
    return found


def command_line() -> click.Group:
    """Return the group of all verbs."""
    module = importlib.import_module("detrojan.cli.main")
    groups = [value for value in vars(module).values() if isinstance(value, click.Group)]
    assert len(groups) == 1, "expected one group of verbs in detrojan.cli.main"
    return groups[0]


def wrong_command(group: click.Group, words: list[str]) -> str:
    """Return what is wrong with the arguments of a detrojan command, or an empty text.

    Options are looked up and values of choices compared; files need not exist.
    """
    context = click.Context(group, info_name="detrojan", resilient_parsing=True)
    words = [word for word in words if word not in {"|", ">", "2>"}]
    command: click.Command = group
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        verb, *words = words
        found = command.get_command(context, verb)
        if found is None:
            return f"no verb {verb!r}"
        command = found
        context = click.Context(command, info_name=verb, parent=context)
    options = {
        name: option for option in command.get_params(context) for name in option.opts + option.secondary_opts
    }
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if not re.match(r"--?[a-zA-Z]", word):
            continue
        if name not in options:
            return f"no option {name}"
        kind = options[name].type
        chosen = value or (words[place + 1] if place + 1 < len(words) else "")
        if isinstance(kind, click.Choice) and chosen not in kind.choices:
            return f"{name} takes no {chosen!r}"
    return ""


def test_every_command_in_the_documentation_is_real():
    group = command_line()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = []
    for path in markdown():
        for name, *words in commands(path.read_text(encoding="utf-8")):
            if name == "detrojan":
                reason = wrong_command(group, words)
            else:
                unknown = [word for word in words if "=" not in word and word not in targets]
                reason = f"no make target {unknown}" if unknown else ""
            if reason:
                wrong.append(f"{path.relative_to(ROOT)}: {name} {shlex.join(words)}: {reason}")
    assert wrong == []


def test_the_readme_shows_the_commands_a_newcomer_needs():
    found = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert ["make", "demo"] in found
    assert any(words[0] == "detrojan" for words in found)


def test_every_verb_has_help_with_an_example():
    group = command_line()
    context = click.Context(group, info_name="detrojan")
    verbs = group.list_commands(context)
    assert {"demo", "scan", "repair", "evaluate", "attack", "predict", "list"} <= set(verbs)
    for verb in verbs:
        command = group.get_command(context, verb)
        text = command.get_help(click.Context(command, info_name=verb, parent=context))
        assert f"detrojan {verb}" in text.partition("\n")[2], f"expected an example in detrojan {verb} --help"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("judge m.pt", "no verb 'judge'"),
        ("scan m.pt --quick", "no option --quick"),
        ("scan m.pt --format pdf", "--format takes no 'pdf'"),
        ("scan m.pt --format=pdf", "--format takes no 'pdf'"),
        ("scan m.pt --format json -v", ""),
        ("--help", ""),
    ],
)
def test_a_wrong_command_is_noticed(words, says):
    @click.group()
    def group():
        pass

    @group.command()
    @click.argument("model")
    @click.option("--format", "form", type=click.Choice(["text", "json"]))
    @click.option("-v", "--verbose", is_flag=True)
    def scan(model, form, verbose):
        pass

    assert wrong_command(group, words.split()) == says


def test_commands_are_read_from_shell_blocks_only():
    text = (
        "`detrojan x`\n```sh\n$ detrojan scan a.h5 \\\n    --net deepid  # a comment\nls\n"
        "A=1 .venv/bin/detrojan list\n"
        "```\n```python\ndetrojan = 1\n```\n"
    )
    assert commands(text) == [["detrojan", "scan", "a.h5", "--net", "deepid"], ["detrojan", "list"]]
