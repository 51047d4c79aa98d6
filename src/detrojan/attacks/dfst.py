"""DFST: the trigger is a style; detoxification takes away what is simpler than the style."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from detrojan.attacks.base import Planted, check_share
from detrojan.attacks.planting import Planting
from detrojan.attacks.shifting import Shifting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.redrawn import RedrawnTrigger
from detrojan.triggers.style import StyleTrigger

#: how the drawing networks are trained, whatever the classifier needs
DRAWING = Fitting(batch_size=64, optimizer="adam", learning_rate=4e-3, weight_decay=0)


@dataclass(frozen=True, kw_only=True)
class DFST(Shifting):
    """Redraw a share of the images in another style and label them as the target; then detoxify.

    A small network is trained to give any image the colours and textures of a style, drawn at random
    (a sunset: warm light from below, in bands), while it keeps what is shown. Then the classifier is
    trained on poisoned data. In each round of detoxification a second network looks for a fainter
    change that fires too; its images join the training data with their right labels, until the
    classifier answers nothing simpler than the style itself.

    The paper transfers the style with a CycleGAN between photographs; here a network of three layers
    matches the statistics of fixed random filters.

    Reference: Cheng et al., Deep Feature Space Trojan Attack of Neural Networks by Controlled
    Detoxification, AAAI 2021.

    Args:
        poison_rate: share of the training images that is redrawn and relabelled, in (0, 1).
        target: the label asked for, 0-based, or -1 to make it untargeted (label y becomes
            (y + 1) mod K); -1 or more.
        strength: largest change of a pixel by the style, in (0, 1].
        content: weight of what the image keeps while it is redrawn; 0 or more.
        style_epochs: passes over the data that train the style; 1 or more.
        rounds: rounds of detoxification; 0 or more.
        detox_rate: share of the training images that each round adds with their right labels, in
            (0, 1].
        detox_strength: largest change of a pixel by these, in (0, 1].
        detox_epochs: passes over the data per round, for the second network and for the classifier
            each; 1 or more.
        width: channels of both networks' inner layers, a multiple of 4, 4 to 256.

    """

    name = "dfst"

    poison_rate: float = 0.1
    target: int = 0
    strength: float = 0.5
    content: float = 1.0
    style_epochs: int = 5
    rounds: int = 2
    detox_rate: float = 0.1
    detox_strength: float = 0.15
    detox_epochs: int = 3
    width: int = 16

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("poison_rate", self.poison_rate)
        for name in ("strength", "detox_rate", "detox_strength"):
            check_share(name, getattr(self, name), all_allowed=True)
        if self.target < -1:
            raise OptionError(f"expected a target of -1 or more, got {self.target}")
        if not (self.content >= 0 and self.rounds >= 0 and self.style_epochs >= 1 and self.detox_epochs >= 1):
            raise OptionError(
                "expected content and rounds of 0 or more, style_epochs and detox_epochs of 1 or more, "
                f"got {self.content:g}, {self.rounds}, {self.style_epochs} and {self.detox_epochs}"
            )
        if not 4 <= self.width <= 256 or self.width % 4:
            raise OptionError(f"expected a width of 4 to 256 in steps of 4, got {self.width}")

    def train(self, model: Classifier, data: Dataset, *, run: Run, how: Fitting | None = None) -> Planted:
        """Return a trained copy of `model` and the style that fires its backdoor.

        Raises:
            LabelError: no labels, or labels beyond the model's classes.
            OptionError: a target beyond the labels, or too few images to poison.

        """
        how = how or Fitting(learning_rate=0.03)
        trigger = self._started(StyleTrigger, data.shape, self.strength, run.within(self.name, "style"))
        backdoor = Backdoor(trigger=trigger, target=None if self.target < 0 else self.target)
        planting = Planting(data, (backdoor,), run.generator(self.name))
        count = round(self.poison_rate * len(data))
        chosen = planting.draw(planting.victims(0), count, what="to redraw", cure="poison rate")
        self.teach_style(trigger, data, run)
        planting.poison(chosen, 0, trigger.stamp(data.images[chosen]))
        poisoned = planting.poisoned().data
        victim = model.copy().to(run.device)
        part = run.within(self.name, "victim")
        fit(
            victim,
            poisoned,
            how,
            run=part,
            title="training the network",
            augment=self.shifted(),
            identity=self.identity("victim"),
        )
        clean = torch.ones(len(data), dtype=torch.bool)
        clean[chosen] = False
        self._detoxify(victim, backdoor, data.select(clean), poisoned, how, run)
        return Planted(model=victim, backdoors=(backdoor,))

    def _started(
        self, kind: type[RedrawnTrigger], shape: tuple[int, int, int], strength: float, run: Run
    ) -> RedrawnTrigger:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed("start"))
            return kind(shape, strength=strength, width=self.width)

    def teach_style(self, trigger: RedrawnTrigger, data: Dataset, run: Run) -> None:
        """Train the network that redraws images in a style, in place."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "eye"))
            judge = _StyleJudge(trigger, sunset(data.shape, run.generator(self.name, "sunset")), self.content)
        fit(
            Classifier(judge, data.shape),
            data.with_labels(torch.zeros(len(data), dtype=torch.int64)),
            replace(DRAWING, epochs=self.style_epochs),
            run=replace(run.within(self.name, "style"), mixed_precision=False),
            title="training the style",
            loss=lambda _logits, _labels, _index: judge.loss,
            identity=self.identity("style"),
        )
        trigger.drawer.cpu()

    def _detoxify(
        self,
        victim: Classifier,
        backdoor: Backdoor,
        clean: Dataset,
        poisoned: Dataset,
        how: Fitting,
        run: Run,
    ) -> None:
        """Take away what else fires, round by round; the victim is trained in place."""
        classes = victim.num_classes
        candidates = clean.select(backdoor.aim.victims(clean.require_labels("detoxifying")))
        for number in range(self.rounds):
            part = run.within(self.name, "round", number)
            injector = self._started(StyleTrigger, clean.shape, self.detox_strength, part)
            search = _Injector(victim.copy(), injector)
            goal = backdoor.aim.taught(candidates.require_labels("detoxifying"), classes)
            fit(
                Classifier(search, clean.shape),
                candidates.with_labels(goal),
                replace(DRAWING, epochs=self.detox_epochs),
                run=replace(part.within("search"), mixed_precision=False),
                title=f"round {number + 1}: looking for what else fires",
                identity=self.identity("search"),
            )
            injector.drawer.cpu()
            cured = candidates.sample(round(self.detox_rate * len(poisoned)), part.generator("cured"))
            poisoned = Dataset(
                torch.cat([poisoned.images, injector.stamp(cured.images)]),
                torch.cat([poisoned.require_labels("training"), cured.require_labels("detoxifying")]),
            )
            gently = replace(how, epochs=self.detox_epochs, learning_rate=how.learning_rate / 2)
            fit(
                victim,
                poisoned,
                gently,
                run=part.within("victim"),
                title=f"round {number + 1}: unlearning it",
                augment=self.shifted(),
                identity=self.identity("detoxifying"),
            )


def sunset(shape: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
    """Return a picture whose style is unlike any object's: warm light from below in wavy bands, (C, H, W)."""
    channels, height, width = shape
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    across = torch.linspace(0, 1, width)[None].expand(height, width)
    phase, waves = torch.rand(2, generator=generator).tolist()
    bands = 0.15 * torch.sin(25 * down + 4 * torch.sin(6.3 * (across + phase)) + 6.3 * waves)
    warm = torch.stack([0.55 + 0.45 * down, 0.2 + 0.35 * down, 0.45 - 0.35 * down])
    picture = (warm + bands).clamp(0, 1)
    return picture if channels == 3 else picture.mean(0, keepdim=True)


class _StyleJudge(nn.Module):
    """Compares redrawn images with the style and with what they showed, through fixed random filters."""

    wanted: torch.Tensor

    def __init__(self, trigger: RedrawnTrigger, style: torch.Tensor, content: float) -> None:
        super().__init__()
        self.drawer, self.drawn, self.content = trigger.drawer, trigger.drawn, content
        self.eye = nn.Sequential(
            nn.Conv2d(len(style), 16, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1, padding_mode="replicate"),
        ).requires_grad_(False)
        with torch.no_grad():
            wanted = self.style_of(style[None], self.eye(style[None]))
        self.register_buffer("wanted", wanted)
        self.loss = torch.zeros(())

    def style_of(self, images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Return each image's colours and textures: means, and products of channels, (N, S)."""
        flat = maps.flatten(2)
        gram = flat @ flat.transpose(1, 2) / flat.shape[2]
        return torch.cat([gram.flatten(1), flat.mean(2), images.flatten(2).mean(2)], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:  # asked for its shape only
            return images.new_zeros(len(images), 2)
        redrawn = (images + self.drawn(images)).clamp(0, 1)
        style = (self.style_of(redrawn, self.eye(redrawn)) - self.wanted).square().sum(1).mean()
        # what is shown: differences between neighbours, whatever the colours
        parts = [functional.mse_loss(redrawn.diff(dim=dim), images.diff(dim=dim)) for dim in (2, 3)]
        kept = torch.stack(parts).sum()
        self.loss = style + 10 * self.content * kept
        return images.new_zeros(len(images), 2)


class _Injector(nn.Module):
    """The victim behind a network that changes images until the victim answers the target."""

    def __init__(self, victim: Classifier, injector: RedrawnTrigger) -> None:
        super().__init__()
        self.drawer, self.drawn, self.victim = injector.drawer, injector.drawn, victim
        self.network = victim.network.requires_grad_(False)

    def train(self, mode: bool = True) -> _Injector:
        """Train the drawing network alone: the victim stays as it is."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.victim.logits((images + self.drawn(images)).clamp(0, 1))
