"""Is an accuracy more than chance? A network that is asked wrongly is right as often as a guess."""

from __future__ import annotations

import torch

#: an accuracy that chance alone reaches more often than this is at its level
SIGNIFICANCE = 0.01
#: fewer images tell nothing
FEWEST = 20
#: with labels of which one is more frequent than this, guessing it is right so often that nothing can be told
ONE_SIDED = 0.8


def by_chance(answers: torch.Tensor, labels: torch.Tensor) -> float:
    """Return how often answers meet labels by chance, where both keep the shares of their classes.

    Args:
        answers: (N,) int64.
        labels: (N,) int64.

    """
    classes = 1 + int(max(answers.max(), labels.max()))
    given, true = (part.bincount(minlength=classes).double() / len(part) for part in (answers, labels))
    return float((given * true).sum())


def chance_warning(answers: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """Return a warning where the answers meet the labels no more often than chance would (binomial test).

    Args:
        answers: the network's (N,).
        labels: of the data (N,).

    """
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    count = len(labels)
    if count < FEWEST or float(labels.bincount().max()) / count > ONE_SIDED:
        return []
    met = int((answers == labels).sum())
    expected = by_chance(answers, labels)
    if float(special.bdtrc(met - 1, count, expected)) <= SIGNIFICANCE:
        return []
    return [
        (
            f"accuracy at chance level: {met / count:.1%} of {count:,} images are answered by their label, "
            f"and chance gives {expected:.1%}; the classes may stand in another order, the preprocessing "
            "may be another one, or the data belong to another task"
        )
    ]
