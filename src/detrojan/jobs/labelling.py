"""What the labels and the class names of some data are to a network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from detrojan.data.class_names import Match, both_lists, is_wordnet, match_classes, overlap
from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError
from detrojan.judging.truth import foreign
from detrojan.models.classifier import Classifier
from detrojan.models.imagenet import synsets

#: images that a network is asked about the names of classes, per class and in all
_ASKED, _MOST_ASKED = 8, 512
#: standard deviations by which one order of the classes has to be better than the other
_SURE = 4.0
_WORDNET = (
    "a file for --class-names with a WordNet id per line, in the order of the network's labels, matches them "
    '(of the sets that timm knows, such as ImageNet-1k, pip install "detrojan[timm]" does)'
)
_WAYS_OUT = "--class-names FILE states the network's, --unlabelled does without labels"


def with_usable_labels(
    network: Classifier, images: Dataset, *, strict: bool = False
) -> tuple[Dataset, list[str]]:
    """Return the images with the network's labels, or without labels, and what a person has to know.

    Labels that were numbered after names, as class folders are, become the network's by name. Labels that
    cannot be the network's are left out.

    Args:
        network: whose labels are wanted.
        images: labelled or not.
        strict: refuse labels that cannot be the network's.

    Raises:
        LabelError: names of which only some are the network's; if `strict`, all that cannot be its.

    """
    warnings = list(images.warnings)
    if images.labels is None:
        return images, warnings
    images, told = _matched(network, images, strict=strict)
    warnings += told
    if images.labels is None or not foreign(network, images):
        return images, warnings
    highest = int(images.labels.max())
    said = f"{images.source}: the labels go up to {highest}, the network has {network.num_classes} classes"
    if strict:
        raise LabelError(
            f"{said}; expected labels of 0 to {network.num_classes - 1} "
            "(--unlabelled or --against ORIGINAL do without)"
        )
    warnings.append(f"{said}: the labels are not used, the network's own answers stand in")
    return _bare(images), warnings


def _bare(images: Dataset) -> Dataset:
    return replace(images.with_labels(None), class_names=(), named=False)


def _matched(network: Classifier, images: Dataset, *, strict: bool) -> tuple[Dataset, list[str]]:
    """Return the images with the labels that the network has for their classes."""
    found, known = images.class_names, network.class_names
    if not found or (not known and not images.named):
        return images, []
    match = match_classes(found, known, network.num_classes)
    if match is None and images.named and all(map(is_wordnet, found)):
        match = match_classes(found, synsets(network.num_classes, known), network.num_classes)
    if match is not None:
        return _relabelled(images, match, network.num_classes, known)
    if not images.named:
        return images, [f"{images.source}: names of classes differ: {both_lists(found, known)}"]
    if not known and len(found) > network.num_classes:
        return images, []  # these labels are beyond the network's, which is told by itself
    lists = both_lists(found, known, network.num_classes)
    if all(map(is_wordnet, found)):
        lists = f"{lists}; {_WORDNET}"
    said = f"{images.source}: expected the network's classes, got others: {lists}"
    if strict or overlap(found, known):
        raise LabelError(f"{said}; {_WAYS_OUT}")
    return _bare(images), [f"{said}: the labels are not used, the network's own answers stand in"]


def _relabelled(
    images: Dataset, match: Match, classes: int, known: tuple[str, ...]
) -> tuple[Dataset, list[str]]:
    assert images.labels is not None
    names = list(known) or list(map(str, range(classes)))
    if not known:
        for label, name in zip(match.labels, images.class_names, strict=True):
            names[label] = name
    if not match.changes:
        return replace(images, class_names=tuple(names)), []
    moved = torch.tensor(match.labels, dtype=torch.int64)[images.labels]
    label = next(at for at, new in enumerate(match.labels) if at != new)
    note = (
        f"classes were matched with the network's {match.how}: {images.class_names[label]!r:.60} is label "
        f"{match.labels[label]}"
    )
    return replace(images, labels=moved, class_names=tuple(names), notes=(*images.notes, note)), []


def with_names(network: Classifier, images: Dataset) -> tuple[Dataset, list[str]]:
    """Give a network without class names those of the data, where its answers bear them out.

    A name is used for a label where most images of that name are answered so. Folders that are numbers may
    have been sorted as text when the network was trained: where that fits better by far, it is taken.

    Args:
        network: its names are set, if it has none.
        images: with the network's labels, or without.

    Returns:
        The images, maybe with labels in the other order, and what a person has to know of that.

    """
    if network.class_names or images.labels is None or len(images.class_names) != network.num_classes:
        return images, []
    asked = _spread(images.labels, min(_ASKED * network.num_classes, _MOST_ASKED))
    answers = network.answers(images.images[asked]).cpu()
    images, told = _in_better_order(images, asked, answers)
    assert images.labels is not None
    truth, names = images.labels[asked], list[str]()
    for label, name in enumerate(images.class_names):
        own = answers[truth == label]
        fits = len(own) > 0 and int(own.bincount().argmax()) == label
        names.append(name if fits else str(label))
    if names != list(map(str, range(network.num_classes))):
        network.class_names = tuple(names)
    return images, told


def _spread(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Return positions of at most `count` images that are spread evenly over the classes."""
    order = labels.argsort(stable=True)
    return order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()]


def _in_better_order(
    images: Dataset, asked: torch.Tensor, answers: torch.Tensor
) -> tuple[Dataset, list[str]]:
    """Return images whose classes are numbers in the order of text, where the answers fit that far better."""
    names = images.class_names
    by_text = sorted(names)
    if not images.named or list(names) == by_text or not all(name.isdecimal() for name in names):
        return images, []
    assert images.labels is not None
    places = torch.tensor([by_text.index(name) for name in names])
    truth = images.labels[asked]
    now, then = answers == truth, answers == places[truth]
    better, worse = int((then & ~now).sum()), int((now & ~then).sum())
    if better - worse <= _SURE * math.sqrt(better + worse):
        return images, []
    told = (
        f"{images.source}: the network numbers the class folders as text is sorted (label "
        f"{by_text.index('10') if '10' in by_text else 0} is the folder '10'): its answers fit that order "
        "far better, so it was taken"
    )
    return replace(images, labels=places[images.labels], class_names=tuple(by_text)), [told]
