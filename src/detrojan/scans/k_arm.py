"""K-Arm: a bandit spends the optimisation steps on the labels whose trigger shrinks fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.errors import OptionError
from detrojan.findings import PIXELS
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import FEWEST_LABELS, Rule, judged_by_size, smallest
from detrojan.judging.verdict import Judged
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.search.engine import search
from detrojan.search.forms import form_named
from detrojan.search.jobs import Job
from detrojan.search.plan import Known, Plan
from detrojan.triggers.aim import Aim


@dataclass(frozen=True, kw_only=True)
class KArm(Scan):
    """Let a multi-armed bandit choose which labels' triggers are optimised, and flag the smallest ones.

    Labels are screened first. Those that are most often among the top logits of other labels' images become
    arms. All arms are warmed up; then each round gives a few more steps to the arms whose mask's L1 has
    fallen by most per step so far, or is small already:

    fall / steps + beta / size, the sizes as shares of the image,

    or, with probability epsilon, to an arm drawn at random. The chosen arms share the forward passes.

    Departures from the paper: its bounds on sizes, and on the ratio to the reverse direction, belong to one
    size of input. Here a label is flagged if three things hold. So small a mask is unlikely among labels
    drawn as controls. (This is a moderated t-test of the logarithm, corrected for all labels tested, also
    those that were screened out.) The mask is small beside the usual one. The trigger works on held-out
    images.

    To be comparable, the controls and the arms with the smallest masks get as many steps in the end as the
    arm that had most. The screening ends at a number of arms, not at a bound on how often a label is among
    the top logits. Only triggers for all other labels' images are arms, not those for single source labels.

    Reference: Shen et al., Backdoor Scanning for Deep Neural Networks through K-Arm Optimization,
    ICML 2021.

    Args:
        top: share of all labels whose logits count as the top ones in the screening; in (0, 1].
        arms: labels that stay after the screening; 1 or more.
        controls: labels drawn at random that show what is usual; 5 or more.
        starts: random starts of each label, each an arm of its own; 1 or more.
        warm_up: steps of every arm before the bandit begins; 1 or more.
        rounds: times that the bandit chooses; 1 or more.
        round_steps: steps of the chosen arms per round; 1 or more.
        at_once: arms chosen per round; 1 or more.
        epsilon: probability that an arm is drawn at random; in [0, 1].
        beta: weight of a small size beside a fast fall; 0 or more.
        batch_size: images per step; 2 or more.
        goal: share of a batch that must reach the label for a trigger to count, in (0, 1].
        significance: p-value, corrected for all labels tested, below which a label is flagged; in (0, 1).
        ratio: a flagged mask is at most this share of the usual mask; in (0, 1].
        confirm: attack success on held-out images that a flagged trigger must reach, in [0, 1].
        samples: images to use, half for the optimisation, half held out; 20 or more.

    """

    name = "k_arm"

    top: float = 0.25
    arms: int = 24
    controls: int = 10
    starts: int = 2
    warm_up: int = 10
    rounds: int = 24
    round_steps: int = 5
    at_once: int = 4
    epsilon: float = 0.3
    beta: float = 1e-5
    batch_size: int = 16
    goal: float = 0.9
    significance: float = 0.02
    ratio: float = 0.4
    confirm: float = 0.75
    samples: int = 600

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        least = (self.arms, self.starts, self.warm_up, self.rounds, self.round_steps, self.at_once)
        if min(least) < 1 or self.controls < FEWEST_LABELS:
            raise OptionError(
                "expected arms, starts, warm_up, rounds, round_steps and at_once of 1 or more and controls "
                f"of {FEWEST_LABELS} or more, got {', '.join(map(str, least))} and {self.controls}"
            )
        if not 0 < self.top <= 1 or not 0 <= self.epsilon <= 1 or not 0 <= self.beta < float("inf"):
            raise OptionError(
                "expected top in (0, 1], epsilon in [0, 1] and beta of 0 or more, "
                f"got {self.top:g}, {self.epsilon:g} and {self.beta:g}"
            )
        self.plan()
        self.rule()

    def plan(self) -> Plan:
        """Return how the masks are searched: the steps of the bandit, and as many to bring others level."""
        steps = self.warm_up + 2 * self.rounds * self.round_steps
        return Plan(steps=steps, batch_size=self.batch_size, goal=self.goal)

    def rule(self) -> Rule:
        """Return when a trigger is abnormally small."""
        return Rule(significance=self.significance, ratio=self.ratio, confirm=self.confirm)

    def judge(self, model: Classifier, ready: Prepared, run: Run) -> Judged:
        """Judge the tested labels against each other, and against controls among them."""
        shares = self.screen(model, ready)
        ranked = sorted(shares, key=lambda label: (-shares[label], label))
        controls = _drawn(ranked, self.arms, self.controls, run)
        kept = sorted({*ranked[: self.arms], *controls})
        jobs = [Job(Aim(target=label), start) for label in kept for start in range(self.starts)]
        bandit = Bandit(self, jobs, set(controls), model.input_shape[1] * model.input_shape[2], run)
        searched = search(model, *ready.search, jobs, self.plan(), run=run, title="arms", choose=bandit)
        spent: dict[str, int] = {}
        for job, found in searched.found.items():
            spent[str(job.target)] = spent.get(str(job.target), 0) + found.steps
        details: dict[str, Any] = {
            "controls": controls,
            "put_aside": len(ready.tested) - len(kept),
            "screened": {str(label): shares[label] for label in kept},
            "steps": spent,
        }
        return judged_by_size(
            model,
            ready,
            smallest(searched.found),
            self.rule(),
            controls=controls,
            unit=PIXELS,
            counted=form_named("patch").unit,
            passes=searched.passes,
            details=details,
        )

    def screen(self, model: Classifier, ready: Prepared) -> dict[int, float]:
        """Return by label the share of other labels' images that have it among their top logits."""
        images, truth = ready.search
        top = max(1, round(self.top * model.num_classes))
        among = torch.zeros(len(images), model.num_classes, dtype=torch.bool)
        among.scatter_(1, model.all_logits(images).topk(top, dim=1).indices.cpu(), value=True)
        return {
            label: float(among[Aim(target=label).victims(truth), label].float().mean())
            for label in ready.tested
        }


class Bandit:
    """Chooses the arms of each round; in the end it brings the controls and the best arms level.

    What it chooses depends on what it is given, the round and the run's seed alone.

    Args:
        method: the hyper-parameters.
        jobs: the arms.
        controls: labels that show what is usual.
        pixels: of an image; sizes are measured as shares of it.
        run: seed.

    """

    def __init__(self, method: KArm, jobs: Sequence[Job], controls: set[int], pixels: int, run: Run) -> None:
        self.method, self.jobs, self.pixels, self.run = method, jobs, pixels, run
        self.controls = [place for place, job in enumerate(jobs) if job.target in controls]

    def __call__(self, known: Known) -> list[int]:
        """Return the places of the arms that the next step advances."""
        spent = known.step - self.method.warm_up
        if spent < 0:
            return list(range(len(self.jobs)))
        number, inside = divmod(spent, self.method.round_steps)
        if number >= self.method.rounds:
            return self._behind(known)
        return list(known.chosen) if inside else self._chosen(known, number)

    def scores(self, known: Known) -> torch.Tensor:
        """Return the objective of each arm (J,); an arm whose trigger has never worked has not fallen."""
        size, first = (
            torch.where(values.isfinite(), values / self.pixels, 1.0) for values in (known.best, known.first)
        )
        return (first - size) / known.spent + self.method.beta / size.clamp_min(1e-6)

    def _chosen(self, known: Known, number: int) -> list[int]:
        """Return the arms of a round: for each place the best one left, or by chance any."""
        random = self.run.generator("bandit", number)
        left = self.scores(known).argsort(descending=True, stable=True).tolist()
        chosen = []
        for _ in range(min(self.method.at_once, len(left))):
            by_chance = float(torch.rand(1, generator=random)) < self.method.epsilon
            place = int(torch.randint(len(left), (1,), generator=random)) if by_chance else 0
            chosen.append(left.pop(place))
        return sorted(chosen)

    def _behind(self, known: Known) -> list[int]:
        """Return those controls and smallest arms that had fewer steps than the arm that had most."""
        smallest = known.best.argsort(stable=True)[: self.method.at_once].tolist()
        most = int(known.spent.max())
        return sorted(place for place in {*self.controls, *smallest} if int(known.spent[place]) < most)


def _drawn(ranked: Sequence[int], arms: int, count: int, run: Run) -> list[int]:
    """Return control labels: drawn from those screened out, and from the arms where these are too few."""
    random = run.generator("controls")
    out, kept = ranked[arms:], ranked[:arms]
    order = [part[place] for part in (out, kept) for place in torch.randperm(len(part), generator=random)]
    return sorted(order[:count])
