"""What the documentation says is true: pages current, links alive, commands real, sections complete."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from detrojan import errors

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "detrojan"


def tracked() -> list[Path]:
    """Every file that git keeps or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def markdown() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


# --- pages of the methods ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("detrojan_docs", ROOT / "scripts" / "docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_the_methods_are_current(generator):
    assert generator.stale() == [], "run: make docs"


def test_a_stale_a_missing_and_a_left_over_page_are_named(generator, monkeypatch, tmp_path):
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr(generator, "METHODS", tmp_path)
    pages = {tmp_path / name: name for name in ("current.md", "stale.md", "missing.md")}
    monkeypatch.setattr(generator, "pages", lambda: pages)
    (tmp_path / "current.md").write_text("current.md")
    (tmp_path / "stale.md").write_text("old")
    (tmp_path / "gone.md").write_text("x")
    assert generator.stale() == [
        "gone.md belongs to no method",
        "stale.md is not current",
        "missing.md is missing",
    ]


# --- links ------------------------------------------------------------------------------------------

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")


def anchor(heading: str) -> str:
    """Return a heading's anchor as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(path: Path, text: str) -> Iterator[str]:
    prose = FENCE.sub("", text)
    for found in LINK.finditer(prose):
        link = found[1] or found[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, part = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"{link}: no such file"
        elif part and target.suffix == ".md":
            body = text if target == path else target.read_text(encoding="utf-8")
            headings = re.findall(r"^#+\s+(.*)$", FENCE.sub("", body), re.MULTILINE)
            if part not in map(anchor, headings):
                yield f"{link}: no such heading"


def test_links_inside_the_repository_resolve():
    found = markdown()
    assert len(found) > 5
    assert [
        f"{path.relative_to(ROOT)}: {dead}"
        for path in found
        for dead in dead_links(path, path.read_text(encoding="utf-8"))
    ] == []


def test_a_dead_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "there.md").write_text("# Some Heading: here\n")
    text = (
        "# Top\n[a](there.md) [b](gone.md) [c](#top) [d](#bottom) [e](there.md#some-heading-here)\n"
        '[f](there.md#other) [g](https://example.org/x)\n<img src="gone.png">\n```\n[h](not-a-link.md)\n```\n'
    )
    page.write_text(text)
    assert [dead.partition(":")[0] for dead in dead_links(page, text)] == [
        "gone.md",
        "#bottom",
        "there.md#other",
        "gone.png",
    ]


# --- commands ---------------------------------------------------------------------------------------


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
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
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


# --- docstring sections -----------------------------------------------------------------------------


def section(docstring: str, title: str) -> list[str] | None:
    """Return the names listed in a Google-style section, or None where there is no such section."""
    found = re.search(rf"^{title}:\n((?:(?:    .*)?\n)+)", inspect.cleandoc(docstring) + "\n\n", re.MULTILINE)
    return None if found is None else re.findall(r"^    ([\w, ]+):", found[1], re.MULTILINE)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    listed = node.args
    names = [a.arg for a in (*listed.posonlyargs, *listed.args)]
    names += [listed.vararg.arg] if listed.vararg else []
    names += [a.arg for a in listed.kwonlyargs]
    names += [listed.kwarg.arg] if listed.kwarg else []
    return [name for name in names if name not in {"self", "cls"}]


def class_names(node: ast.ClassDef) -> tuple[list[str] | None, set[str]]:
    """Return what a class is constructed with (None: as its base), and its public attributes."""
    fields = [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not ast.unparse(item.annotation).startswith("ClassVar")
    ]
    makers = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    wanted = parameters(makers[0]) if makers else (fields or None)
    assigned = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
    }
    return wanted, {*fields, *assigned}


def wrong_sections(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node) or ""
        listed = section(docstring, "Args")
        if isinstance(node, ast.ClassDef):
            wanted, attributes = class_names(node)
            unknown = set(section(docstring, "Attributes") or []) - attributes
            if unknown:
                yield f"{node.name}: Attributes names {', '.join(sorted(unknown))}, which it has not"
        else:
            wanted = parameters(node)
        if listed is not None and wanted is not None and listed != wanted:
            yield f"{node.name}: Args lists {', '.join(listed)}; it takes {', '.join(wanted)}"
        for names in section(docstring, "Raises") or []:
            for name in names.split(", "):
                if not hasattr(errors, name) and not hasattr(builtins, name):
                    yield f"{node.name}: Raises names {name}, which is no error of ours"


def test_docstring_sections_match_the_code():
    assert [
        f"{path.relative_to(SOURCE)}: {wrong}"
        for path in sorted(SOURCE.rglob("*.py"))
        for wrong in wrong_sections(ast.parse(path.read_text(encoding="utf-8")))
    ] == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(a, b):\n    '''X.\n\n    Args:\n        a: one.\n    '''", "Args lists a; it takes a, b"),
        ("def f(a):\n    '''X.\n\n    Raises:\n        DateError: never.\n    '''", "Raises names DateError"),
        (
            "class A:\n    '''X.\n\n    Args:\n        z: one.\n    '''\n    y: int = 0",
            "Args lists z; it takes y",
        ),
        ("class A:\n    '''X.\n\n    Attributes:\n        z: one.\n    '''\n    y: int = 0", "names z"),
    ],
)
def test_a_wrong_section_is_noticed(code, says):
    assert says in next(wrong_sections(ast.parse(code)))


# --- nothing of the machine it was written on -------------------------------------------------------

#: each pattern is written so that it does not match itself
LOCAL = re.compile(
    r"(?<![\w.])/(?:wor[k]|hom[e]/\w|roo[t]/|op[t]/)|"
    r"py[p]i\.org|pythonhoste[d]|download\.pytorc[h]|"
    r"thi[s] session|previou[s] session|\bth[e] brief\b|\bissu[e] #?\d",
    re.IGNORECASE,
)


def test_no_text_speaks_of_one_machine_or_of_how_it_was_written():
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {match[0]}"
            for number, line in enumerate(lines, 1)
            if (match := LOCAL.search(line))
        ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /wor" + "k/main", "at py" + "pi.org", "in thi" + "s session", "issu" + "e 2"]
)
def test_local_text_is_noticed(text):
    assert LOCAL.search(text)
