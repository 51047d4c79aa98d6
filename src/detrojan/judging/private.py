"""What a trigger costs that works on a network and not on a reference: a backdoor's costs hardly more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.judging.outliers import combined_p_values
from detrojan.judging.policy import POLICY
from detrojan.search.plan import Found

#: of triggers
FORMS = ("patch", "additive")


@dataclass(frozen=True, kw_only=True)
class Private:
    """What is known of one label.

    Attributes:
        label: the target.
        own: by form, the size of the smallest trigger that works on the network; infinite where none did.
        alone: by form, that of the smallest that works on it and not on the reference; the same.
        p_value: of the strongest statistic, corrected for the labels tested, 0 to 1.
        by: the form that says most, "patch" or "additive".

    """

    label: int
    own: dict[str, float]
    alone: dict[str, float]
    p_value: float
    by: str

    @property
    def ratio(self) -> float:
        """How many times larger a trigger is that the reference does not know: the least of both forms."""
        return min(math.exp(_cost(self.own[form], self.alone[form])) for form in FORMS)

    def facts(self) -> dict[str, Any]:
        """Return it as plain values; a size that nothing reached is None."""
        sizes = {"own": self.own, "alone": self.alone}
        by_name = {f"{form}_{whose}": size for whose, known in sizes.items() for form, size in known.items()}
        numbers = {**by_name, "p_value": self.p_value, "ratio": self.ratio}
        return {**{name: v if math.isfinite(v) else None for name, v in numbers.items()}, "by": self.by}


def weigh_private(
    own: Mapping[str, Mapping[int, Found]], alone: Mapping[str, Mapping[int, Found]], looks: int
) -> list[Private]:
    """Return the evidence on every label, the smallest p-value first.

    A natural trigger is made of features that the reference knows as well, so one that leaves the
    reference alone has to be larger by a factor. A backdoor's trigger leaves it alone anyway. The
    logarithm of that factor is tested against that of networks without a backdoor, one-sided, for
    each form and for both together (Stouffer).

    Args:
        own: by form and label, the smallest change that works on the network.
        alone: likewise, the smallest that works on the network and not on the reference.
        looks: labels that were tested.

    """
    evidence = []
    for label in sorted(own["patch"]):
        sizes = {form: (own[form][label].size, alone[form][label].size) for form in FORMS}
        chances = {form: _chance(_cost(*sizes[form]), form) for form in FORMS}
        both = combined_p_values(
            torch.tensor([chances["patch"]]), torch.tensor([chances["additive"]]), POLICY.private_correlation
        )
        evidence.append(
            Private(
                label=label,
                own={form: sizes[form][0] for form in FORMS},
                alone={form: sizes[form][1] for form in FORMS},
                p_value=min(1.0, min(*chances.values(), float(both)) * POLICY.effective * looks),
                by=min(FORMS, key=lambda form: chances[form]),
            )
        )
    return sorted(evidence, key=lambda entry: entry.p_value)


def _cost(own: float, alone: float) -> float:
    """Return the logarithm of the factor; infinite where one of the two was not found."""
    if math.isinf(own) or math.isinf(alone):
        return math.inf
    return math.log(max(alone, 1e-3) / max(own, 1e-3))


def _chance(cost: float, form: str) -> float:
    """Return how likely so small a cost is without a backdoor."""
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    usual, spread = getattr(POLICY, f"private_{form}")
    return float(special.stdtr(POLICY.private_freedom, (cost - usual) / spread))
