"""What a person reads is plain English: sentences of a length that can be read once, and usual words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import click
import pytest

from detrojan.cli.main import main
from prose import ROOT, blocks, markdown, plain, split, words

#: words in one sentence, and on average over a page that has more than a few sentences
LONGEST, AVERAGE, FEW = 40, 22, 5
#: not English, or not plain; what to write instead
PHRASES = {
    r"in the stead of|in (?:its|their|his|her|whose) stead": "instead",
    r"\btold are\b|\b(?:is|are|was|were) told\b(?! apart)": "says, reports",
    r"\b(?:has|have|had) (?:it|they|he|she) not\b|\b(?:has|have|had) not[.,;:)]": "lacks, does not have",
    r"\bwhichever\b|\bwhosoever\b|\bwhatsoever\b": "any, the one that",
    r"(?<!could )\bbe (?:it|they)\b": "whether it is",
    r"\blest\b": "so that not",
    r"\b(?:there|here|where)(?:of|in|unto|upon|from|with|to)\b": "of it, in it",
    r"\b(?:hitherto|heretofore|henceforth|albeit|whilst|amongst|thrice|betwixt)\b": "usual words",
    r"\bbut for\b": "except for",
    r"\banew\b": "again",
    r"\bheld for\b|\bis held to be\b": "taken for, seen as",
    r"\bfor keeps\b|\bas good as\b|\bowed to\b": "usual words",
    r"\bthat which\b|\bthose which\b": "what",
    r"\bno (?:data|image|label|trigger|number)s? is there\b|\bis (?:no|none) there\b": "there is no",
}


def faults(text: str, longest: int = LONGEST) -> Iterator[str]:
    """Yield each sentence of a text that is too long, and each phrase that is not plain."""
    found = blocks(plain(text))
    sentences = [sentence for _, block in found for sentence in split(block)]
    for sentence in sentences:
        if words(sentence) > longest:
            yield f"{words(sentence)} words: {sentence}"
        yield from phrases(sentence)


def phrases(sentence: str) -> Iterator[str]:
    """Yield each phrase of a sentence that is not plain."""
    for phrase, better in PHRASES.items():
        if match := re.search(phrase, sentence, re.IGNORECASE):
            yield f"{match[0]!r} (write: {better}): {sentence}"


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file of Python, docstrings among them, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def average(text: str) -> float:
    """Return the words of a sentence on average, or 0 where there are few; tables do not count."""
    lengths = [
        words(sentence) for cell, block in blocks(plain(text)) if not cell for sentence in split(block)
    ]
    return mean(lengths) if len(lengths) > FEW else 0


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Yield each help text of a command and of those below it, with where it stands."""
    # what follows a \b is laid out by hand: examples
    yield path, re.sub(r"\x08\n(?:.+\n?)*", "", command.help or "")
    yield from ((f"{path} {p.opts[0]}", p.help or "") for p in command.params if isinstance(p, click.Option))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, f"{path} {name}")


@pytest.mark.parametrize("path", markdown(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_can_be_read(path):
    text = path.read_text(encoding="utf-8")
    assert list(faults(text)) == []
    assert average(text) <= AVERAGE


def test_the_help_texts_can_be_read():
    found = list(helps(main, "detrojan"))
    assert len(found) > 50
    assert [f"{where}: {fault}" for where, text in found for fault in faults(text)] == []


def test_messages_and_docstrings_have_usual_words():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for folder in ("src", "examples", "benchmark", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in literals(path)
        for fault in phrases(" ".join(text.split()))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"This {'very ' * 40}long sentence.", "43 words"),
        ("Short. It is used in the stead of a table.", "'in the stead of' (write: instead)"),
        ("| a | b |\n|---|---|\n| x | what has it not |\n", "'has it not'"),
        ("The first has a trigger, the second has not.", "'has not.'"),
    ],
)
def test_what_cannot_be_read_is_noticed(text, says):
    assert says in next(faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "It has not been measured. `in the stead of` is code, and A. B. Smith et al. are one sentence.",
        f"```\n{'word ' * 50}\n```\n",
        f"<!-- made by: x -->\n{'word ' * 50}\n<!-- end -->\n",
        f"- {'one ' * 25}\n- {'two ' * 25}\n",
    ],
)
def test_what_can_be_read_passes(text):
    assert list(faults(text)) == []


def test_an_average_counts_sentences_not_tables():
    assert average("One two three. " * 6 + f"\n\n| {'cell ' * 30} |\n") == 3
