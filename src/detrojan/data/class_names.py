"""Which label of a network a class of the data is: by its name, or by the number in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from detrojan.words import printable

_WORDNET = re.compile(r"n\d{8}")
_BESIDE_NUMBER = re.compile(r"^\d+[\s_.:-]+|[\s_.:-]+\d+$")
#: names such as 7, 07_stop, class 7, class_7
_NUMBER = re.compile(r"^(?:class|label|c)?[\s_-]*(\d{1,9})(?:[\s_.:-].*)?$", re.IGNORECASE)
_IGNORED = re.compile(r"[\s_-]+")
#: names of a list that an error shows
_SHOWN = 12


@dataclass(frozen=True)
class Match:
    """What the classes of some data are to a network.

    Attributes:
        labels: for each class of the data, the network's label.
        how: by what they were matched, for people.

    """

    labels: tuple[int, ...]
    how: str

    @property
    def changes(self) -> bool:
        """Whether a class gets another label than it had."""
        return self.labels != tuple(range(len(self.labels)))


def match_classes(found: Sequence[str], known: Sequence[str], classes: int) -> Match | None:
    """Tell which label of a network each class of the data is, or None where that cannot be told.

    A network with class names: by the whole name or one of the names between commas, ignoring case, spaces,
    `_` and `-`; by a WordNet id; by the name beside a number; by the number where the data have nothing
    else. A network without: by the numbers; else in the order given, where there are as many classes.

    Args:
        found: names of the data's classes.
        known: names of the network's classes, or empty.
        classes: how many the network has.

    """
    if known:
        for keys, how in _BY_NAME:
            labels = _paired(found, known, keys)
            if labels is not None:
                return Match(labels, how)
        return _by_number(found, classes) if all(name.isdecimal() for name in found) else None
    numbered = _by_number(found, classes)
    if numbered is None and len(found) == classes:
        return Match(tuple(range(classes)), "in the order of their names")
    return numbered


def is_wordnet(name: str) -> bool:
    """Tell whether a name is a WordNet id alone, as the folders of ImageNet are called."""
    return _WORDNET.fullmatch(name) is not None


def overlap(found: Sequence[str], known: Sequence[str]) -> int:
    """Return how many classes of the data are named like one of the network's."""
    names = {key for name in known for key in _synonyms(name)}
    return sum(bool(names & set(_synonyms(name))) for name in found)


def both_lists(found: Sequence[str], known: Sequence[str], classes: int = 0) -> str:
    """Return the names of the data and of the network, or how many classes it has, for an error."""
    there = f"the network's are {_listed(known)}" if known else f"the network has {classes} without names"
    return f"the data's classes are {_listed(found)}; {there}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:_SHOWN])
    return f"{shown}, ... ({len(names)})" if len(names) > _SHOWN else shown


def _plain(name: str) -> str:
    return _IGNORED.sub("", name).casefold()


def _whole(name: str) -> Iterable[str]:
    return (_plain(name),)


def _synonyms(name: str) -> Iterable[str]:
    return {_plain(piece) for piece in (name, *name.split(",")) if _plain(piece)}


def _wordnet(name: str) -> Iterable[str]:
    return set(_WORDNET.findall(name))


def _beside_number(name: str) -> Iterable[str]:
    bare = _BESIDE_NUMBER.sub("", name.strip())
    return {_plain(bare)} if _plain(bare) and not bare.isdecimal() else set()


_BY_NAME: tuple[tuple[Callable[[str], Iterable[str]], str], ...] = (
    (_whole, "by name"),
    (_synonyms, "by name"),
    (_wordnet, "by WordNet id"),
    (_beside_number, "by the name beside a number"),
)


def _paired(
    found: Sequence[str], known: Sequence[str], keys: Callable[[str], Iterable[str]]
) -> tuple[int, ...] | None:
    """Return the one label of each class; None where a class has none or several, or two have the same."""
    holders: dict[str, set[int]] = {}
    for label, name in enumerate(known):
        for key in keys(name):
            holders.setdefault(key, set()).add(label)
    labels = []
    for name in found:
        fitting: set[int] = set().union(*(holders.get(key, set()) for key in keys(name)))
        if len(fitting) != 1:
            return None
        labels.append(fitting.pop())
    return tuple(labels) if len(set(labels)) == len(labels) else None


def _by_number(found: Sequence[str], classes: int) -> Match | None:
    """Return the labels that numbers in the names state: from 0, or from 1 where all classes are there."""
    stated = [_NUMBER.match(name.strip()) for name in found]
    numbers = [int(match[1]) for match in stated if match is not None]
    if len(numbers) < len(found) or len(set(numbers)) < len(numbers) or not numbers:
        return None
    if max(numbers) < classes:
        return Match(tuple(numbers), "by the number in their names")
    if sorted(numbers) == list(range(1, classes + 1)):
        return Match(tuple(number - 1 for number in numbers), "by the number in their names, less 1")
    return None
