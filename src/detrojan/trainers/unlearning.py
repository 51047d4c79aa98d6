"""How anti-backdoor learning unlearns what it has isolated, and judges whether that was poison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.findings import RepairStep
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.trainers.base import Watch, losses

#: at most so many other samples are kept right for each one that is unlearned
BESIDE = 20
#: they are drawn from this share of the data, whose losses were high both in the isolation and after it, and
#: from this share of each isolated sample's label, however easy the label is
DOUBTED, OF_LABEL = 0.3, 0.1
#: this share of each isolated sample's label, its least suspicious, shows what the unlearning costs; less of
#: it, with hardly any poison, where the isolated ones clearly are a group of their own
JUDGED, JUDGED_CLEAR = 0.3, 0.15
#: a sample follows the isolated ones whose loss passes this share of the loss of guessing; clean ones keep
#: a loss far below it
FOLLOWED = 0.25
#: weight of unlearning against keeping, and of keeping the isolated samples' labels right where they belong;
#: poison gives way to little, clean samples hold against it
CLIMB, HOLD = 0.3, 0.5
#: fewer isolated samples may come of a few classes alone, and need not stand for all of the poison
FEW = 100
#: unlearning is undone if it costs more of the accuracy on samples of these labels that were left out of it,
#: or if more of the isolated samples are still answered with more confidence than by guessing
TOLERANCE, STUCK = 0.05, 0.8
#: how often an unlearning that costs just what is borne is undone by chance, at most
ERROR = 0.05
#: a second look bears less: it begins where the first isolation has failed, which clean data do as well
SECOND_TOLERANCE = 0.025


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """What an unlearning came to.

    Attributes:
        before: mean loss of the isolated samples before it.
        after: the same after it.
        share: of the isolated samples that were not unlearned, 0 to 1.
        cost: in accuracy on other samples of their labels, -1 to 1.
        why: the reason why it is undone; empty where it is not.
        right: the precision of the isolated samples, where the poisoned ones are known.

    """

    before: float
    after: float
    share: float
    cost: float
    why: str
    right: dict[str, float]

    def summary(self, begun: str, sign: str) -> str:
        """Return it in a sentence that begins with `begun`; `sign` follows the reason why it is undone."""
        said = f"{begun}: their loss went from {self.before:.3g} to {self.after:.3g}"
        if self.right and not self.why:
            said += f"; {self.right['precision']:.1%} of them are poisoned"
        if self.why:
            said += f"; undone, as {self.why}{sign}"
        if self.right and self.why and sign and self.right["precision"] >= 0.5:
            said += f", though {self.right['precision']:.1%} of it is"
        return said

    def details(self) -> dict[str, float]:
        """Return what the report shows."""
        return {
            "loss before": self.before,
            "loss after": self.after,
            "not unlearned": self.share,
            "accuracy lost": self.cost,
            "undone": bool(self.why),
        } | self.right


def unlearn(
    model: Classifier,
    data: Dataset,
    ranked: torch.Tensor,
    count: int,
    how: Fitting,
    *,
    known: torch.Tensor,
    poisoned: torch.Tensor | None,
    run: Run,
    identity: Mapping[str, object],
    stage: str = "unlearning",
    what: str = "unlearned {count:,} isolated samples",
    sign: str = ": nothing was unlearned, so look at what was isolated before the network is used",
    tolerance: float = TOLERANCE,
    clear: bool = False,
) -> RepairStep:
    """Make `model` unlearn the isolated samples, in place, or leave it as it was and say why.

    Args:
        model: trained on the data.
        data: labelled, (N, C, H, W).
        ranked: positions of all samples (N,), the most suspicious first.
        count: how many of them are isolated.
        how: the training.
        known: the samples' losses (N,), cross entropies of this very network.
        poisoned: true positions of the poisoned samples, for the curves only.
        run: device, seed, progress, checkpoint.
        identity: what tells the training apart.
        stage: what this part of the training is called.
        what: the beginning of the summary; `count` is filled in.
        sign: what the summary says after the reason why it was undone, where it was.
        tolerance: how much accuracy it may cost on samples that were left out of it, 0 to 1.
        clear: whether the isolated samples clearly are a group of their own, so that fewer others judge.

    """
    isolated = ranked[:count]
    held, kept, own = _beside(data, ranked, count, known, run, JUDGED_CLEAR if clear else JUDGED)
    right = _accuracy(model, data, held)
    fallback = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    whole = {**identity, "isolated": isolated, "own": own}
    watch = Watch.of(model, data, poisoned, run=run, identity=whole)
    chosen = data.select(torch.cat([isolated, kept]))
    loss, here, title = unlearning_loss(count, own), run.within("abl", stage), f"ABL: {stage}"
    history = fit(
        model, chosen, how, run=here, title=title, loss=loss, after_epoch=watch.hook(), identity=whole
    )
    after = losses(model, data.select(isolated))
    share = float((after < math.log(model.num_classes)).double().mean())
    cost = right - _accuracy(model, data, held)
    why = undone(share, round(cost * len(held)), len(held), tolerance)
    if why:
        model.network.load_state_dict(fallback)
    before, now = float(known[isolated].mean()), float(after.mean())
    precision = isolated_right(isolated, poisoned)
    made = Unlearned(before=before, after=now, share=share, cost=cost, why=why, right=precision)
    summary = made.summary(f"{what.format(count=count)} in {how.epochs} epochs", sign)
    details = {"fitting": asdict(how)} | made.details()
    return RepairStep(method=f"abl {stage}", summary=summary, curves=watch.curves(history), details=details)


def _beside(
    data: Dataset, ranked: torch.Tensor, count: int, known: torch.Tensor, run: Run, judged: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is not isolated, but used: positions to judge with and to keep right, and a mask.

    The mask is of the isolated and the kept samples, in this order: which are kept right under a label that
    is unlearned.

    """
    labels = data.require_labels("unlearning")
    others = doubted(ranked, count, known, labels)
    others = others[torch.randperm(len(others), generator=run.generator("abl", "kept"))]
    alike = torch.isin(labels[others], labels[ranked[:count]])
    judging = torch.zeros(len(others), dtype=torch.bool)
    judging[alike.nonzero().flatten()[::2]] = True
    kept = others[~judging][: BESIDE * count]
    own = torch.cat([torch.zeros(count, dtype=torch.bool), alike[~judging][: BESIDE * count]])
    held = least_suspicious(ranked, count, known, labels, judged)
    return held[~torch.isin(held, kept)], kept, own


def isolated_right(isolated: torch.Tensor, poisoned: torch.Tensor | None) -> dict[str, float]:
    """Return the precision of the isolated samples, where the poisoned ones are known."""
    if poisoned is None:
        return {}
    return {"precision": float(torch.isin(isolated, poisoned).double().mean())}


def undone(share: float, lost: int, judging: int, tolerance: float = TOLERANCE) -> str:
    """Return why an unlearning is undone, or nothing.

    It is undone where so many lost samples are hardly chance: where an unlearning that takes each sample's
    label with the probability `tolerance` costs as many in less than 5% of all cases (binomial test).

    Args:
        share: of the isolated samples that were not unlearned, 0 to 1.
        lost: how many more of the judged samples are answered wrong than before it; below 0 if fewer are.
        judging: how many samples of the isolated ones' labels judge it; they were left out of it.
        tolerance: which share of them it may cost, 0 to 1.

    """
    from scipy import special  # noqa: PLC0415 - only who needs it waits for it

    if lost > 0 and float(special.bdtrc(lost - 1, judging, tolerance)) < ERROR:
        return f"it cost {100 * lost / judging:.1f} points on other samples of their labels"
    if share > STUCK:
        return f"{share:.0%} of them were not unlearned beside other samples of their labels"
    return ""


def _accuracy(model: Classifier, data: Dataset, chosen: torch.Tensor) -> float:
    return clean_accuracy(model, data.select(chosen)) if len(chosen) else 0.0


def followers(
    isolated: torch.Tensor, labels: torch.Tensor, before: torch.Tensor, now: torch.Tensor, guess: float
) -> torch.Tensor:
    """Return the positions of the samples that forget their label with isolated ones of that label (F,).

    Samples that share a trigger share their fate, some in part: their loss passes a quarter of that of
    guessing. Clean ones keep their label, or the unlearning is undone.

    Args:
        isolated: positions of the samples that were unlearned.
        labels: of all samples (N,).
        before: losses of all samples (N,) before the unlearning.
        now: the same after it.
        guess: the loss of guessing.

    """
    bar = FOLLOWED * guess
    follow = (before < bar) & (now >= bar) & torch.isin(labels, labels[isolated])
    follow[isolated] = False
    return follow.nonzero().flatten()


def doubted(ranked: torch.Tensor, count: int, now: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the positions of samples that are hardly poison, by their number: high was their loss, and is.

    Poison that the isolation ranked high, a faint blend for instance, has a low loss once the training
    on the rest has learned it; and poison that this training has not learned was easy in the isolation.

    Args:
        ranked: positions of all samples (N,), lowest loss in the isolation first.
        count: how many of them are isolated; none of these is returned.
        now: losses of all samples (N,) after the training on the rest.
        labels: of all samples (N,).

    """
    order = _by_doubt(ranked, count, now)
    chosen = torch.zeros(len(ranked), dtype=torch.bool)
    chosen[order[: max(1, round(DOUBTED * len(ranked)))]] = True
    chosen[least_suspicious(ranked, count, now, labels, OF_LABEL)] = True
    chosen[ranked[:count]] = False
    return chosen.nonzero().flatten()


def least_suspicious(
    ranked: torch.Tensor, count: int, now: torch.Tensor, labels: torch.Tensor, share: float
) -> torch.Tensor:
    """Return the positions of a share (0 to 1) of each isolated sample's label, by the same order.

    None of the isolated samples is among them; the other arguments are those of `doubted`.
    """
    order = _by_doubt(ranked, count, now)
    chosen = torch.zeros(len(ranked), dtype=torch.bool)
    for label in sorted(set(labels[ranked[:count]].tolist())):
        alike = order[labels[order] == label]
        chosen[alike[: math.ceil(share * len(alike))]] = True
    chosen[ranked[:count]] = False
    return chosen.nonzero().flatten()


def _by_doubt(ranked: torch.Tensor, count: int, now: torch.Tensor) -> torch.Tensor:
    """Return all positions (N,), first those whose loss was high and is; last the isolated ones."""
    places = torch.arange(len(ranked))
    first, later = torch.empty_like(places), torch.empty_like(places)
    first[ranked] = places
    later[now.argsort(stable=True)] = places
    high = torch.minimum(first, later)
    high[ranked[:count]] = -1
    return high.argsort(descending=True, stable=True)


def unlearning_loss(isolated: int, own: torch.Tensor) -> Loss:
    """Return the loss that keeps most samples right and lowers the probability of the first ones' labels.

    The cross entropy of a sample that is answered with certainty has no slope to climb: its gradient
    is 1 - p. Descent on -log(1 - p) has the slope p, and a sample below 1 / classes is left alone.

    Args:
        isolated: how many samples, the first of the data, are unlearned.
        own: which samples (N,) are kept right under a label that is unlearned, bool.

    """

    def mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return (values * chosen).sum() / chosen.sum().clamp(min=1)

    def loss(logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        bad, same = (index < isolated).to(logits.device), own[index].to(logits.device)
        label = functional.one_hot(labels, logits.shape[1]).bool()
        rest, total = logits.masked_fill(label, -torch.inf).logsumexp(1), logits.logsumexp(1)
        wrong = total - logits[label]
        certain = (-wrong).detach().exp() > 1 / logits.shape[1]
        climb = (total - rest) * certain
        return mean(wrong, ~bad) + HOLD * mean(wrong, same) + CLIMB * mean(climb, bad)

    return loss
