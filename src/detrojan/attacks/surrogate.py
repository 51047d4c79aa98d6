"""The attacker's own clean network: what some attacks compute their poison with."""

from __future__ import annotations

from dataclasses import dataclass

from detrojan.attacks.base import Attack
from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError, OptionError
from detrojan.learning.fitting import Fitting
from detrojan.learning.fresh import train_net
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run


@dataclass(frozen=True, kw_only=True)
class WithSurrogate(Attack):
    """Mixed into the attacks that need a clean network of their own.

    Args:
        net: the network that is trained on the clean data first.
        epochs: passes over the clean data of that training; 1 or more.
        surrogate: a trained clean network to use instead; None to train one.

    """

    net: str = "badnets_cnn"
    epochs: int = 10
    surrogate: Classifier | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        find_net(self.net)
        if self.epochs < 1:
            raise OptionError(f"expected epochs of 1 or more, got {self.epochs}")

    def clean_model(self, data: Dataset, run: Run) -> Classifier:
        """Return the network asked for (a copy on the run's device), or one trained on clean `data`.

        Raises:
            DataError: the network asked for takes other images.
            LabelError: it has fewer classes than the data.
            OptionError: `net` does not take such images.

        """
        labels = data.require_labels("training the attacker's own network")
        classes = max(int(labels.max()) + 1, len(data.class_names))
        if self.surrogate is not None:
            self.surrogate.check(data.images)
            if self.surrogate.num_classes < classes:
                raise LabelError(
                    f"expected a surrogate of {classes} classes, got {self.surrogate.num_classes}"
                )
            return self.surrogate.copy().to(run.device)
        return train_net(
            self.net,
            data,
            Fitting(epochs=self.epochs, learning_rate=0.03),
            classes=classes,
            run=run.within(self.name, "surrogate"),
            title="training the attacker's own network",
        )
