"""ISSBA: a small steganographic encoder hides a secret in each image, as a residual of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import Targeted
from detrojan.attacks.planting import Planting
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.sample_specific import SampleSpecificTrigger


@dataclass(frozen=True, kw_only=True)
class ISSBA(Targeted):
    """Hide a secret in a share of the images by an encoder that is trained here, and relabel them.

    Encoder and decoder are trained together. The decoder reads the secret out of an image that carries its
    own residual. It also has to say when the residual is another image's, or missing, so that the encoder
    learns to fit the residual to the image. More images get the residual of another image and keep their
    label. Neither of these is in the paper, whose residuals also fire on other images to some degree.

    The training of the encoder is kept in the run's checkpoint folder and not done twice.

    Reference: Li et al., Invisible Backdoor Attack with Sample-Specific Triggers, ICCV 2021.

    Args:
        strength: largest change of a pixel, in (0, 1].
        bits: length of the secret; 1 to 1024.
        fidelity: weight of the residual's mean square in the encoder's loss; 0 or more.
        encoder_epochs: passes over the clean data that train the encoder; 1 or more.
        width: channels of the encoder's inner layers, a multiple of 4, 4 to 256.
        cover_rate: share of the training images that gets another image's residual and keeps its
            label, in [0, 1).

    """

    name = "issba"

    strength: float = 0.2
    bits: int = 8
    fidelity: float = 20.0
    encoder_epochs: int = 10
    width: int = 16
    cover_rate: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("strength", self.strength, all_allowed=True)
        check_share("cover_rate", self.cover_rate, none_allowed=True)
        if not (1 <= self.bits <= 1024 and self.fidelity >= 0 and self.encoder_epochs >= 1):
            raise OptionError(
                "expected bits of 1 to 1024, fidelity of 0 or more and encoder_epochs of 1 or more, "
                f"got {self.bits}, {self.fidelity:g} and {self.encoder_epochs}"
            )
        if not 4 <= self.width <= 256 or self.width % 4:
            raise OptionError(f"expected a width of 4 to 256 in steps of 4, got {self.width}")

    def made(self, shape: tuple[int, int, int], run: Run) -> Trigger:
        """Return the encoder with its secret, not trained yet."""
        secret = torch.randint(2, (self.bits,), generator=run.generator(self.name, "secret")) * 2 - 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "start"))
            return SampleSpecificTrigger(shape, strength=self.strength, width=self.width, secret=secret)

    def learnt(self, trigger: Trigger, data: Dataset, run: Run) -> Trigger:
        """Return the trigger after its encoder was trained together with a decoder."""
        assert isinstance(trigger, SampleSpecificTrigger)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.derived_seed(self.name, "decoder"))
            pair = _Pair(trigger, self.fidelity, run.within(self.name, "secrets"))
        fit(
            Classifier(pair, data.shape),
            data.with_labels(torch.zeros(len(data), dtype=torch.int64)),
            Fitting(
                epochs=self.encoder_epochs,
                batch_size=64,
                optimizer="adam",
                learning_rate=4e-3,
                weight_decay=0,
            ),
            run=replace(run.within(self.name, "encoder"), mixed_precision=False),
            title="training the encoder",
            loss=lambda _logits, _labels, _index: pair.loss,
            identity=self.identity("encoder", trigger=trigger),
        )
        trigger.drawer.cpu()
        return trigger

    def hide(self, planting: Planting) -> None:
        """Lay out the images that get the residual of another one."""
        trigger = planting.backdoors[0].trigger
        assert isinstance(trigger, SampleSpecificTrigger)
        chosen = planting.draw_covers(self.cover_rate)
        if len(chosen) > 1:
            images = planting.data.images[chosen]
            planting.cover(chosen, trigger.stamp_from(images, images.roll(1, 0)))


class _Pair(nn.Module):
    """Encoder and decoder as one network, so that the one training loop can train them."""

    #: batches so far: a buffer, so that an interrupted training goes on with the secrets it would have had
    done: torch.Tensor

    def __init__(self, trigger: SampleSpecificTrigger, fidelity: float, run: Run) -> None:
        super().__init__()
        bits, channels, width = len(trigger.secret), trigger.shape[0], 2 * trigger.width

        def block(before: int, after: int) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
            return [conv, nn.BatchNorm2d(after), nn.ReLU()]

        self.encoder, self.drawn = trigger.drawer, trigger.drawn
        # the first output says whether there is a secret at all, the others read it
        self.decoder = nn.Sequential(
            *block(channels, width),
            *block(width, width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 1 + bits),
        )
        self.bits, self.fidelity, self.run = bits, fidelity, run
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.loss = torch.zeros(())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:  # asked for its shape only
            return images.new_zeros(len(images), 1 + self.bits)
        chance = self.run.generator(int(self.done))
        self.done += 1
        secrets = torch.randint(2, (len(images), self.bits), generator=chance).to(images) * 2 - 1
        residual = self.drawn(images, secrets)
        own = (images + residual).clamp(0, 1)
        crossed = (images + residual.roll(1, 0)).clamp(0, 1)
        says: torch.Tensor = self.decoder(torch.cat([own, crossed, images]))
        there = torch.zeros(len(says), device=says.device)
        there[: len(images)] = 1
        wrong = functional.binary_cross_entropy_with_logits(says[:, 0], there)
        misread = functional.soft_margin_loss(says[: len(images), 1:], secrets)
        self.loss = wrong + misread + self.fidelity * residual.square().mean()
        return says[: len(images)]
