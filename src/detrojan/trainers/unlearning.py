"""How anti-backdoor learning unlearns what it has isolated, and judges whether that was poison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.findings import RepairStep
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.trainers.base import Watch, losses
from detrojan.trainers.recovery import Recovery, answered, beyond_chance, dear
from detrojan.trainers.selection import beside, least_suspicious

#: this share of each isolated sample's label, its least suspicious, shows what the unlearning costs; less of
#: it, with hardly any poison, where the isolated ones clearly are a group of their own
JUDGED, JUDGED_CLEAR = 0.3, 0.15
#: this share of every label, its least suspicious, is trained on to see which others find their label again
SHOWN = 0.3
#: weight of unlearning against keeping, and of keeping the isolated samples' labels right where they belong;
#: poison gives way to little, clean samples hold against it
CLIMB, HOLD = 0.3, 0.5
#: fewer isolated samples may come of a few classes alone, and need not stand for all of the poison
FEW = 100
#: unlearning is undone if it costs more of the accuracy on samples of these labels that were left out of it,
#: or if more of the isolated samples are still answered with more confidence than by guessing
TOLERANCE, STUCK = 0.05, 0.8
#: less is borne where the isolation is doubtful: clean data lead there, too
DOUBTFUL_TOLERANCE = 0.025


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """What an unlearning came to.

    Attributes:
        before: mean loss of the isolated samples before it.
        after: the same after it.
        share: of the isolated samples that were not unlearned, 0 to 1.
        cost: in accuracy on other samples of their labels, -1 to 1.
        back: share of the samples that lost their label and found it again without being shown it, 0 to 1;
            None where that was not asked.
        why: the reason why it is undone; empty where it is not.
        right: the precision of the isolated samples, where the poisoned ones are known.

    """

    before: float
    after: float
    share: float
    cost: float
    back: float | None
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
        asked = {} if self.back is None else {"found again": self.back}
        return {
            "loss before": self.before,
            "loss after": self.after,
            "not unlearned": self.share,
            "accuracy lost": self.cost,
            **asked,
            "undone": bool(self.why),
        } | self.right


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the unlearnings of a training.

    Attributes:
        name: what it is called.
        what: the beginning of its summary; `count` is filled in.
        sign: what the summary says after the reason why it was undone, where it was.
        clear: whether the isolated samples clearly are a group of their own: fewer others judge then, and
            it may cost more.
        asks: whether it is undone where what lost its label finds it again.

    """

    name: str = "unlearning"
    what: str = "unlearned {count:,} isolated samples"
    sign: str = ": nothing was unlearned, so look at what was isolated before the network is used"
    clear: bool = False
    asks: bool = True


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """What all unlearnings of a training share.

    Attributes:
        model: trained on the data; changed in place.
        data: labelled, (N, C, H, W).
        how: the training.
        recovery: the training that shows which samples find their label again.
        right: which samples were answered right before anything was unlearned (N,), bool.
        poisoned: true positions of the poisoned samples, for the curves only.
        run: device, seed, progress, checkpoint.
        identity: returns what tells the training apart, by the name of the stage.

    """

    model: Classifier
    data: Dataset
    how: Fitting
    recovery: Recovery
    right: torch.Tensor
    poisoned: torch.Tensor | None
    run: Run
    identity: Callable[[str], Mapping[str, object]]

    def step(self, ranked: torch.Tensor, count: int, known: torch.Tensor, stage: Stage) -> RepairStep:
        """Unlearn the isolated samples, or leave the network as it was and say why.

        Args:
            ranked: positions of all samples (N,), the most suspicious first.
            count: how many of them are isolated.
            known: the samples' losses (N,), cross entropies of this very network.
            stage: which of the unlearnings it is.

        """
        isolated, model, data = ranked[:count], self.model, self.data
        judged, tolerance = (JUDGED_CLEAR, TOLERANCE) if stage.clear else (JUDGED, DOUBTFUL_TOLERANCE)
        held, kept, own = beside(data, ranked, count, known, self.run, judged)
        fallback = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
        whole = {**self.identity(stage.name), "isolated": isolated, "own": own}
        watch = Watch.of(model, data, self.poisoned, run=self.run, identity=whole)
        history = fit(
            model,
            data.select(torch.cat([isolated, kept])),
            self.how,
            run=self.run.within("abl", stage.name),
            title=f"ABL: {stage.name}",
            loss=unlearning_loss(count, own),
            after_epoch=watch.hook(),
            identity=whole,
        )
        after, now = losses(model, data.select(isolated)), answered(model, data)
        share = float((after < math.log(model.num_classes)).double().mean())
        lost, back = int(self.right[held].sum()) - int(now[held].sum()), None
        why = undone(share, lost, len(held), tolerance)
        if stage.asks and not why:
            back, why = self._asked(ranked, count, known, now, stage)
        if why:
            model.network.load_state_dict(fallback)
        made = Unlearned(
            before=float(known[isolated].mean()),
            after=float(after.mean()),
            share=share,
            cost=lost / max(1, len(held)),
            back=back,
            why=why,
            right=isolated_right(isolated, self.poisoned),
        )
        begun = f"{stage.what.format(count=count)} in {self.how.epochs} epochs"
        return RepairStep(
            method=f"abl {stage.name}",
            summary=made.summary(begun, stage.sign),
            curves=watch.curves(history),
            details={"fitting": asdict(self.how)} | made.details(),
        )

    def _asked(
        self, ranked: torch.Tensor, count: int, known: torch.Tensor, now: torch.Tensor, stage: Stage
    ) -> tuple[float, str]:
        """Return which share of what lost its label finds it again, and why the unlearning is undone."""
        labels = self.data.require_labels("unlearning")
        lost = self.right & ~now
        lost[ranked[:count]] = False
        shown = least_suspicious(ranked, count, known, labels, SHOWN, every=True)
        again = self.recovery.answers(
            self.model,
            self.data,
            shown[~lost[shown]],
            run=self.run.within("abl", stage.name, "recovery"),
            title=f"ABL: what is lost by the {stage.name}",
            identity=self.identity(f"{stage.name}, recovery"),
        )
        others = ranked[count:]
        return dear(self.right[others], now[others], again[others])


def isolated_right(isolated: torch.Tensor, poisoned: torch.Tensor | None) -> dict[str, float]:
    """Return the precision of the isolated samples, where the poisoned ones are known."""
    if poisoned is None:
        return {}
    return {"precision": float(torch.isin(isolated, poisoned).double().mean())}


def undone(share: float, lost: int, judging: int, tolerance: float = TOLERANCE) -> str:
    """Return why an unlearning is undone, or nothing.

    It is undone where so many lost samples are hardly chance, or where it does not work.

    Args:
        share: of the isolated samples that were not unlearned, 0 to 1.
        lost: how many more of the judged samples are answered wrong than before it; below 0 if fewer are.
        judging: how many samples of the isolated ones' labels judge it; they were left out of it.
        tolerance: which share of them it may cost, 0 to 1.

    """
    if beyond_chance(lost, judging, tolerance):
        return f"it cost {100 * lost / judging:.1f} points on other samples of their labels"
    if share > STUCK:
        return f"{share:.0%} of them were not unlearned beside other samples of their labels"
    return ""


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
