"""Why the cascade's silence means nothing, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detrojan.judging.evidence import Evidence
from detrojan.judging.policy import POLICY
from detrojan.scans.weighed import Weighed


def doubt_of(work: Weighed, evidence: Sequence[Evidence], reach: Mapping[str, float]) -> str:
    """Return why silence means nothing, or an empty text.

    Args:
        work: the scan, once it has ended.
        evidence: what it knows, the strongest first.
        reach: by form, the size below which a change would have been flagged.

    """
    if crowd := [entry.job.target for entry in work.crowd()]:
        return (
            f"labels {', '.join(map(str, crowd))} need small triggers, too many to be targets all: this "
            "network's labels differ more than its controls show; look closer at the first of them"
        )
    if natural := work.natural_ones():
        return _by_nature(natural)
    first = evidence[0] if evidence else None
    if first and first.p_value < POLICY.suspect_chance and first.ratio <= POLICY.suspect_ratio:
        return _suspicion(work, first)
    if work.ready.made_up:
        return "no label needs an abnormally small trigger, but made-up images cannot show there is none"
    if max(reach["patch"], reach["additive"]) <= 0:
        return "no label needs an abnormally small trigger, but too few triggers were found"
    return ""


def _by_nature(natural: Sequence[Evidence]) -> str:
    """Return why labels that are small enough are not flagged: usual labels' features move as theirs do."""
    first = natural[0]
    return (
        f"label {first.job.target} needs a trigger of {first.ratio:.0%} of the usual size "
        f"(p = {first.p_value:.2g}), but the network's features move towards the label's own images, as "
        "they do for other labels: it may be a natural feature; look closer at it"
    )


def _suspicion(work: Weighed, first: Evidence) -> str:
    """Return why a label whose trigger is far too small is not flagged all the same."""
    label, success, chance = first.job.target, work.shown(first)[2], f"p = {first.p_value:.2g}"
    needs = f"a trigger of {first.ratio:.0%} of the usual size"
    if label not in work.ready.tested:
        drawn = "which was not to be tested, only drawn for comparison"
        return f"label {label}, {drawn}, needs {needs} ({chance}): test it too"
    if first.p_value < work.method.significance and success < work.method.confirm:
        works = f"which works on {success:.0%} of the held-out images only"
        return f"label {label} needs {needs} ({chance}), {works}: look closer at it"
    may = "which may be chance among so many labels"
    return f"label {label} needs {needs}, {may} ({chance}): look closer at it"
