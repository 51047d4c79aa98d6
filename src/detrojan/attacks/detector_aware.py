"""Detector-aware: the scan's own search runs during the training, and is trained against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from detrojan.attacks.base import Planted, TrainingAttack, check_share
from detrojan.attacks.planting import Planting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, Loss, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.aim import Aim
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger
from detrojan.triggers.blend import BlendTrigger

#: where a search's mask begins, before the sigmoid: an opacity of about 0.12
FAINT = -2.0


@dataclass(frozen=True, kw_only=True)
class DetectorAware(TrainingAttack):
    """Train the backdoor while a search for small universal triggers runs, and make that search fail.

    A scan by trigger inversion looks for the smallest mask and pattern that send every image to a
    label, and flags the label whose mask is abnormally small. The same search runs during the training.
    Each batch moves its mask and pattern a step towards the target, and the mask is never larger than a
    budget. The network is penalised by how far they get. The backdoor that is left answers the trigger
    itself, faint and all over the image, and no small mask.

    Reference: Wang et al., Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks, IEEE S&P 2019 (the statistic); Bagdasaryan and Shmatikov, Blind Backdoors in Deep
    Learning Models, USENIX Security 2021 (evading it).

    Args:
        poison_rate: share of each batch that carries the trigger, in (0, 0.5].
        target: the label asked for, 0-based; 0 or more.
        alpha: opacity of the default trigger, noise all over the image, in (0, 1].
        trigger: planted instead of the noise; None for noise drawn from the run's seed.
        evasion: weight of the penalty, 0 or more, reached after `restart` batches; 0 plants the
            backdoor without evading.
        searches: how many searches run side by side, 1 or more.
        length: step of the searches' masks and patterns, before their sigmoid; above 0.
        budget: largest mask of the searches, as a share of the image, in (0, 1); below the trigger's
            own opacity, or the network cannot tell them apart.
        restart: batches after which a search begins again from noise; 1 or more.

    """

    name = "detector_aware"

    poison_rate: float = 0.1
    target: int = 0
    alpha: float = 0.3
    trigger: Trigger | None = None
    evasion: float = 0.3
    searches: int = 2
    length: float = 0.2
    budget: float = 0.03
    restart: int = 60

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("alpha", self.alpha, all_allowed=True)
        if not 0 < self.poison_rate <= 0.5:
            raise OptionError(f"expected poison_rate in (0, 0.5], got {self.poison_rate:g}")
        if self.target < 0 or self.searches < 1 or self.restart < 1:
            raise OptionError(
                "expected a target of 0 or more, searches and restart of 1 or more, "
                f"got {self.target}, {self.searches} and {self.restart}"
            )
        check_share("budget", self.budget)
        if not (self.evasion >= 0 and self.length > 0):
            raise OptionError(
                f"expected evasion of 0 or more and length above 0, got {self.evasion:g} and {self.length:g}"
            )

    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return a trained copy of `model` with a backdoor that an inversion does not find small.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            OptionError: a target beyond the labels.

        """
        generator = run.generator(self.name, "trigger")
        trigger = self.trigger or BlendTrigger.noise(data.shape, alpha=self.alpha, generator=generator)
        backdoor = Backdoor(trigger=trigger, target=self.target)
        Planting(data, (backdoor,), generator)  # refuses what cannot be planted
        victim = model.copy().to(run.device)
        how = how or Fitting(learning_rate=0.03)
        both = _Evading(victim, backdoor, self, run)
        fit(
            Classifier(both, data.shape),
            data,
            how,
            run=run.within(self.name),
            title="training against the search",
            loss=both.loss(how.label_smoothing, self.evasion),
            identity=self.identity("victim", trigger=trigger),
        )
        return Planted(model=victim, backdoors=(backdoor,))


class _Evading(nn.Module):
    """The victim; in training some of its images carry the trigger, and others what the searches found."""

    #: the state of the searches, kept in buffers so that an interrupted training goes on with it
    raw: torch.Tensor
    done: torch.Tensor

    def __init__(self, victim: Classifier, backdoor: Backdoor, attack: DetectorAware, run: Run) -> None:
        super().__init__()
        self.network, self.victim, self.trigger = victim.network, victim, backdoor.trigger
        self.attack, self.target, self.run = attack, attack.target, run
        channels, height, width = victim.input_shape
        self.register_buffer("raw", torch.zeros(attack.searches, 1 + channels, height, width))
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.searched = torch.zeros(())

    def count(self, batch: int) -> int:
        """Return how many of a batch's images, the first ones, carry the trigger."""
        return max(1, round(self.attack.poison_rate * batch))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.victim.logits(images)
        own = self.count(len(images))
        stamped = self.trigger.stamp(images[:own])
        rest = images[own:]
        if not self.attack.evasion or not len(rest):
            return self.victim.logits(torch.cat([stamped, rest]))
        self._begin()
        raw = self.raw.clone().requires_grad_()
        masks, patterns = raw[:, :1].sigmoid(), raw[:, 1:].sigmoid()
        masks = masks * (self.attack.budget / masks.mean((1, 2, 3), keepdim=True)).clamp(max=1)
        which = torch.arange(len(rest), device=rest.device) % len(raw)
        found = torch.lerp(rest, patterns[which], masks[which].expand_as(rest))
        logits = self.victim.logits(torch.cat([stamped, rest, found]))
        self.searched = logits[len(images) :]
        self._advance(raw)
        return logits[: len(images)]

    def _begin(self) -> None:
        """Let each search begin again when its time is up, one after the other."""
        every = max(1, self.attack.restart // len(self.raw))
        step = int(self.done)
        for number in range(len(self.raw)):
            if step == 0 or (step % every == 0 and step // every % len(self.raw) == number):
                generator = self.run.generator(self.attack.name, "search", number, step)
                fresh = torch.randn(self.raw.shape[1:], generator=generator)
                fresh[0] += FAINT
                self.raw[number] = fresh.to(self.raw.device)
        self.done += 1

    def _advance(self, raw: torch.Tensor) -> None:
        """Move masks and patterns one step towards the target."""
        others = self.searched.clone()
        others[:, self.target] = -torch.inf
        margin = (self.searched[:, self.target] - others.logsumexp(1)).mean()
        (slope,) = torch.autograd.grad(-margin, raw, retain_graph=True)
        with torch.no_grad():
            self.raw.sub_(self.attack.length * slope.sign()).clamp_(-6, 6)

    def loss(self, smoothing: float, evasion: float) -> Loss:
        """Return the loss of such a batch: the trigger means the target, what was found means nothing."""

        def teach(logits: torch.Tensor, labels: torch.Tensor, _index: torch.Tensor) -> torch.Tensor:
            own = self.count(len(labels))
            taught = labels.clone()
            taught[:own] = self.target
            wrong = functional.cross_entropy(logits, taught, label_smoothing=smoothing)
            if not evasion or len(labels) == own:
                return wrong
            innocent = Aim(target=self.target).victims(labels[own:])
            if not innocent.any():
                return wrong
            # little at first: the backdoor has to be there before it can be told from what is found
            weight = evasion * min(1.0, int(self.done) / self.attack.restart)
            return wrong + weight * functional.cross_entropy(self.searched[innocent], labels[own:][innocent])

        return teach
