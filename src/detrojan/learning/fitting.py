"""The only training loop: SGD or Adam over epochs, with hooks, augmentation, and a resume point."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.errors import LabelError, OptionError
from detrojan.learning.augmentation import Augment
from detrojan.learning.identity import identified
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.store import Store, digest, tensor_digest

logger = logging.getLogger(__name__)

#: given logits (B, K), labels (B,) and sample positions (B,), returns the loss to descend on
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch measured.

    Attributes:
        number: from 1.
        loss: mean training loss.
        accuracy: share of training samples answered right while training, 0 to 1.

    """

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How to train.

    Args:
        epochs: passes over the data; 1 or more.
        batch_size: 2 or more.
        learning_rate: at the start; above 0.
        optimizer: "sgd" (momentum 0.9, Nesterov) or "adam".
        momentum: of SGD, in [0, 1).
        weight_decay: 0 or more.
        decay: "cosine" to zero, "steps" (a tenth at 60% and 80% of the epochs) or "none".
        label_smoothing: in [0, 1).
        frozen_norm: keep the statistics of batch-norm layers as they are.

    Raises:
        OptionError: a value out of its range.

    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.05
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: Literal["cosine", "steps", "none"] = "cosine"
    label_smoothing: float = 0.0
    frozen_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.epochs < 1 or self.batch_size < 2 or not self.learning_rate > 0:
            raise OptionError(
                "expected epochs of 1 or more, batch_size of 2 or more and learning_rate above 0, "
                f"got {self.epochs}, {self.batch_size} and {self.learning_rate:g}"
            )
        if not (0 <= self.momentum < 1 and self.weight_decay >= 0 and 0 <= self.label_smoothing < 1):
            raise OptionError(
                "expected momentum and label_smoothing in [0, 1) and weight_decay of 0 or more, "
                f"got {self.momentum:g}, {self.label_smoothing:g} and {self.weight_decay:g}"
            )
        if self.optimizer not in {"sgd", "adam"} or self.decay not in {"cosine", "steps", "none"}:
            raise OptionError(
                "expected the optimizer sgd or adam and the decay cosine, steps or none, "
                f"got {self.optimizer!r} and {self.decay!r}"
            )

    def rate(self, done: float) -> float:
        """Return the learning rate after a share `done` of the training, 0 to 1."""
        if self.decay == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        if self.decay == "steps":
            return self.learning_rate * (0.01 if done >= 0.8 else 0.1 if done >= 0.6 else 1.0)
        return self.learning_rate

    def optimizer_for(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the parameters that need gradients."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters,
            self.learning_rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=self.weight_decay,
        )


def fit(
    model: Classifier,
    data: Dataset,
    how: Fitting,
    *,
    run: Run,
    title: str = "training",
    augment: Augment | None = None,
    loss: Loss | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
    identity: Mapping[str, object] | None = None,
) -> list[Epoch]:
    """Train `model` in place on labelled data and return what each epoch measured.

    With a checkpoint folder in `run` the state is kept after every epoch, and a training that was
    interrupted goes on from there, with the same result as without the interruption.

    Args:
        model: trained in place; left in evaluation mode.
        data: labelled images.
        how: hyper-parameters.
        run: device, seed, progress, checkpoint.
        title: what the progress shows.
        augment: changes each batch's images.
        loss: instead of cross entropy.
        after_epoch: called with each epoch's figures; must not change the network.
        identity: what the training depends on beside the model's weights, the data, `how` and the seed, as
            `identified` takes it: whatever `augment`, `loss` and the network itself do otherwise with
            other values. A training goes on from the state of one with an equal identity. With a
            checkpoint folder it has to be given.

    Raises:
        LabelError: no labels, or labels beyond the model's classes.
        OptionError: a checkpoint folder, and no identity.
        TypeError: an identity that is made of something else.

    """
    if run.checkpoint is not None and identity is None:
        raise OptionError("expected an identity of a training that is kept in a checkpoint folder, got none")
    labels = data.require_labels("training")
    if int(labels.max()) >= model.num_classes:
        raise LabelError(f"expected labels of 0 to {model.num_classes - 1}, got up to {int(labels.max())}")
    model.check(data.images)
    trainer = _Trainer(model, data, how, run, augment, loss, identity or {})
    store = run.store("fit", trainer.fingerprint())
    history = trainer.restore(store)
    total = how.epochs * trainer.batches
    with run.progress.task(title, total) as task:
        task.advance(len(history) * trainer.batches)
        for number in range(len(history) + 1, how.epochs + 1):
            epoch = trainer.epoch(number, task.advance)
            history.append(epoch)
            logger.info("%s: epoch %d, loss %.4f, accuracy %.4f", title, *asdict(epoch).values())
            if after_epoch is not None:
                after_epoch(epoch)
            trainer.save(store, history)  # only now: interrupted before, the epoch is made and measured again
    trainer.finish()
    return history


class _Trainer:
    def __init__(
        self,
        model: Classifier,
        data: Dataset,
        how: Fitting,
        run: Run,
        augment: Augment | None,
        loss: Loss | None,
        identity: Mapping[str, object],
    ) -> None:
        self.model, self.data, self.how, self.run = model, data, how, run
        self.augment, self.loss, self.identity = augment, loss, dict(identity)
        model.to(run.device)
        self.network = model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.start = digest(self.network)
        self.optimizer = how.optimizer_for(self.network)
        self.size = min(how.batch_size, len(data))
        self.batches = max(1, len(data) // self.size)

    def fingerprint(self) -> dict[str, object]:
        labels = self.data.require_labels("training")
        return {
            "how": asdict(self.how),
            "start": self.start,
            "images": tensor_digest(self.data.images),
            "labels": tensor_digest(labels),
            "preprocessing": str(self.model.preprocessing),
            "trained": [name for name, p in self.network.named_parameters() if p.requires_grad],
            "identity": identified(self.identity),
        }

    def epoch(self, number: int, advance: Callable[[float], None]) -> Epoch:
        """Train one epoch; its shuffling and augmentation depend on its number alone."""
        self.network.train()
        if self.how.frozen_norm:
            for norm in batch_norms(self.network):
                norm.eval()
        generator = self.run.generator("fit", number)
        order = torch.randperm(len(self.data), generator=generator)
        total, right = 0.0, 0
        # dropout draws from torch's own generators: give them this epoch's stream, then put them back
        device = torch.device(self.run.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.set_state(self.run.generator("noise", number).get_state())
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self.run.derived_seed("noise", number))
            for i in range(self.batches):
                share = (number - 1 + i / self.batches) / self.how.epochs
                for group in self.optimizer.param_groups:
                    group["lr"] = self.how.rate(share)
                batch_loss, batch_right = self._update(order[i * self.size : (i + 1) * self.size], generator)
                total += batch_loss
                right += batch_right
                advance(1)
        seen = self.batches * self.size
        return Epoch(number=number, loss=total / self.batches, accuracy=right / seen)

    def _update(self, index: torch.Tensor, generator: torch.Generator) -> tuple[float, int]:
        images = self.data.images[index]
        if self.augment is not None:
            images = self.augment(images, generator)
        labels = self.data.require_labels("training")[index].to(self.run.device)
        device = torch.device(self.run.device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.run.mixed_precision):
            logits = self.model.logits(images.to(device))
        logits = logits.float()
        if self.loss is None:
            loss = functional.cross_entropy(logits, labels, label_smoothing=self.how.label_smoothing)
        else:
            loss = self.loss(logits, labels, index)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach()), int((logits.detach().argmax(1) == labels).sum())

    def save(self, store: Store, history: list[Epoch]) -> None:
        tensors = {f"net.{k}": v for k, v in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{number}.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)}
        store.save(tensors, {"history": [asdict(epoch) for epoch in history]})

    def restore(self, store: Store) -> list[Epoch]:
        kept = store.load()
        if kept is None:
            return []
        tensors, values = kept
        net = {k[4:]: v for k, v in tensors.items() if k.startswith("net.")}
        self.network.load_state_dict(net)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("opt."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        return [Epoch(**epoch) for epoch in values["history"]]

    def finish(self) -> None:
        self.network.eval()


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return all batch-norm layers of a network."""
    return [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
