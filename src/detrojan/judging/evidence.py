"""What the searches say of each label: two sizes, held-out success, and a p-value from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from detrojan.judging.outliers import (
    combined_p_values,
    deviations_below,
    finite_median,
    size_limit,
    small_p_values,
)
from detrojan.judging.policy import POLICY
from detrojan.search.jobs import Job, order
from detrojan.search.plan import Found

#: the statistics: each form's size, and both together
STATISTICS = ("patch", "additive", "both")
#: as how many independent tests the three count
EFFECTIVE = POLICY.effective


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one job.

    Attributes:
        job: the target, and the source where it has one.
        sizes: by statistic; infinite where no change worked.
        ratios: by statistic, the size over the usual one.
        p_value: of the strongest statistic, corrected for all looks, 0 to 1.
        by: the strongest statistic.
        index: robust standard deviations that its logarithm lies below the usual ones' median, 0 or more.
        found: by form, the change itself.

    """

    job: Job
    sizes: dict[str, float]
    ratios: dict[str, float]
    p_value: float
    by: str
    index: float
    found: dict[str, Found]

    @property
    def ratio(self) -> float:
        """How large it is beside the usual, by its strongest statistic."""
        return self.ratios[self.by]


def weigh(
    found: dict[str, dict[Job, Found]],
    *,
    controls: Collection[Job] | None,
    ratio: float,
    looks: int,
    probes: Mapping[int, float] | None = None,
) -> list[Evidence]:
    """Return the evidence on every job that was searched in both forms, smallest p-value first.

    Args:
        found: by form ("patch", "additive"), what was found for each job; of several random starts
            the best counts.
        controls: jobs that show what is usual, or None for all those that are not small themselves.
        ratio: a size of at most this share of the median is small.
        looks: jobs that were looked at, whatever became of them; the correction counts them all.
        probes: by target, how likely its probes' scores are without a backdoor: evidence of its own,
            which is combined with the sizes.

    """
    best = {form: _best(by_job) for form, by_job in found.items()}
    jobs = sorted(set(best["patch"]) & set(best["additive"]), key=order)
    if not jobs:
        return []
    sizes = {form: torch.tensor([best[form][job].size for job in jobs]) for form in ("patch", "additive")}
    sizes["both"] = (sizes["patch"] * sizes["additive"]).sqrt()
    usual = _usual(sizes, jobs, controls, ratio)
    chances = {name: small_p_values(sizes[name], usual) for name in ("patch", "additive")}
    chances["both"] = combined_p_values(chances["patch"], chances["additive"], POLICY.forms_correlation)
    least = torch.stack(list(chances.values())).amin(0).mul(EFFECTIVE).clamp(max=1)
    if probes:
        scored = torch.tensor([probes.get(job.target, 1.0) for job in jobs], dtype=torch.float64)
        least = combined_p_values(least, scored, POLICY.correlation)
    least = (least * looks).clamp(max=1)
    middles = {name: finite_median(sizes[name][usual]) for name in STATISTICS}
    evidence = []
    for place, job in enumerate(jobs):
        own = {name: float(sizes[name][place]) for name in STATISTICS}
        ratios = {name: own[name] / middles[name] if middles[name] > 0 else 1.0 for name in STATISTICS}
        by = min(STATISTICS, key=lambda name: (float(chances[name][place]), ratios[name]))
        evidence.append(
            Evidence(
                job=job,
                sizes=own,
                ratios=ratios,
                p_value=float(least[place]),
                by=by,
                index=deviations_below(own[by], sizes[by][usual]),
                found={form: best[form][job] for form in best if job in best[form]},
            )
        )
    return sorted(evidence, key=lambda entry: (entry.p_value, entry.ratio))


def _best(by_job: dict[Job, Found]) -> dict[Job, Found]:
    """Return by job without its start the smallest change of all starts."""
    best: dict[Job, Found] = {}
    for job, found in by_job.items():
        key = Job(job.aim)
        if key not in best or found.size < best[key].size:
            best[key] = found
    return best


def _usual(
    sizes: dict[str, torch.Tensor], jobs: Sequence[Job], controls: Collection[Job] | None, ratio: float
) -> torch.Tensor:
    """Return which jobs show what is usual: the controls, or else those that are not small in any way."""
    pool = torch.tensor([controls is None or job in controls for job in jobs], dtype=torch.bool)
    usual = pool.clone()
    for name in STATISTICS:
        usual &= sizes[name] > ratio * finite_median(sizes[name][pool])
    return usual


def detectable(
    evidence: Sequence[Evidence], controls: Collection[Job] | None, *, ratio: float, significance: float
) -> dict[str, float]:
    """Return by form the size below which a change would have been flagged (0: none would).

    Args:
        evidence: what was weighed.
        controls: as there.
        ratio: the same.
        significance: the p-value, before correction, below which a job is flagged.

    """
    reach = {}
    for name in ("patch", "additive"):
        sizes = torch.tensor([e.sizes[name] for e in evidence if controls is None or e.job in controls])
        reach[name] = min(size_limit(sizes, significance), ratio * finite_median(sizes))
    return reach
