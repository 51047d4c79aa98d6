"""Feature collision: images of the target class that a network sees as stamped images of others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.attacks.base import check_share
from detrojan.attacks.kinds import CleanLabel, Patched
from detrojan.attacks.surrogate import WithSurrogate
from detrojan.data.dataset import Dataset
from detrojan.errors import OptionError
from detrojan.models.classifier import BATCH, Classifier
from detrojan.run import Run
from detrojan.triggers.aim import Aim
from detrojan.triggers.base import Trigger


@dataclass(frozen=True, kw_only=True)
class FeatureCollision(Patched, WithSurrogate, CleanLabel):
    """Move images of the target class, in a clean network's features, to stamped images of other classes.

    Each poisoned image x stays near its base b, an image of the target class, and collides with a
    stamped image t of another class: min |f(x) - f(t)|^2 + proximity * |x - b|^2. For victims that
    are trained from their start, t also lies on the base as a faint watermark, as in the paper. No
    label is changed.

    The paper aims at single test images. Here every t carries the trigger, so that any stamped image is
    answered with the target. A victim with a short training from its start hardly learns a trigger from so
    faint a watermark. So `visible` also stamps the trigger itself on the finished poison, in which the
    class is no longer recognisable. Steps have a fixed length instead of a rate, as gradients differ by
    orders of magnitude between networks.

    Reference: Shafahi et al., Poison Frogs! Targeted Clean-Label Poisoning Attacks on Neural
    Networks, NeurIPS 2018.

    Args:
        watermark: opacity of the stamped image on the base, in [0, 1).
        proximity: how strongly the image is drawn back to its base, 0 or more.
        steps: steps of forward-backward splitting; 1 or more.
        length: Euclidean length of a step in units of the images; above 0.
        visible: opacity at which the trigger itself is stamped on the poison, in [0, 1]; 0 as in the paper.

    """

    name = "feature_collision"

    watermark: float = 0.3
    proximity: float = 0.1
    steps: int = 60
    length: float = 0.3
    visible: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        check_share("watermark", self.watermark, none_allowed=True)
        check_share("visible", self.visible, none_allowed=True, all_allowed=True)
        if self.steps < 1:
            raise OptionError(f"expected steps of 1 or more, got {self.steps}")
        if not (self.proximity >= 0 and self.length > 0):
            raise OptionError(
                "expected proximity of 0 or more and length above 0, "
                f"got {self.proximity:g} and {self.length:g}"
            )

    def disguised(self, data: Dataset, chosen: torch.Tensor, trigger: Trigger, run: Run) -> torch.Tensor:
        """Return images near those at `chosen` whose features are those of stamped others.

        Raises:
            LabelError: all images are of the target class.

        """
        truth = data.require_labels("choosing images to collide with")
        others = Aim(target=self.target).moved(truth)
        model = self.clean_model(data, run)
        generator = run.generator(self.name, "partners")
        partner = others[torch.randint(len(others), chosen.shape, generator=generator)]
        parts = []
        with run.progress.task("colliding features", len(chosen)) as task:
            for part in torch.split(torch.arange(len(chosen)), BATCH):
                stamped = trigger.stamp(data.images[partner[part]])
                parts.append(self._collided(model, data.images[chosen[part]], stamped))
                task.advance(len(part))
        collided = torch.cat(parts)
        return torch.lerp(collided, trigger.stamp(collided), self.visible) if self.visible else collided

    def _collided(self, model: Classifier, bases: torch.Tensor, stamped: torch.Tensor) -> torch.Tensor:
        """Return images near `bases` with the features of `stamped`, pair by pair."""
        bases, stamped = bases.to(model.device), stamped.to(model.device)
        bases = torch.lerp(bases, stamped, self.watermark)
        images, pull = bases.clone(), self.length * self.proximity
        with model.judging():
            wanted = features(model, stamped).detach()
            for _ in range(self.steps):
                images.requires_grad_()
                distance = (features(model, images) - wanted).square().sum()
                (slope,) = torch.autograd.grad(distance, images)
                norm = slope.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
                forward = images.detach() - self.length * slope / norm
                images = ((forward + pull * bases) / (1 + pull)).clamp(0, 1)
        return images.cpu()


def features(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Return what the network's last linear layer is fed, (N, units), with gradients."""
    with model.capture() as caught:
        model.logits(images)
    return caught[-1]
