"""What `detrojan attack` does between reading its options and writing its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detrojan.errors import OptionError

if TYPE_CHECKING:
    from detrojan.attacks.base import Attack, Poisoned
    from detrojan.data.dataset import Dataset
    from detrojan.learning.fitting import Fitting
    from detrojan.models.classifier import Classifier
    from detrojan.run import Run
    from detrojan.triggers.backdoor import Backdoor


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """Backdoors, with the network that has them, or the data that teach them, or both."""

    model: Classifier | None
    backdoors: tuple[Backdoor, ...]
    poisoned: Poisoned | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an attack is tried on, and how the networks are trained."""

    run: Run
    net: str | None
    train: Dataset
    test: Dataset
    fitting: Fitting
    command: list[str] | None = None

    def classes(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of classes, and their names where there are as many."""
        classes = 1 + int(max(self.train.require_labels("training").max(), self.test.labels.max()))  # type: ignore[union-attr]
        names = self.train.class_names if len(self.train.class_names) >= classes else ()
        return len(names) or classes, names

    def trained(self, data: Dataset, title: str) -> Classifier:
        """Return a network trained on `data`, from the same start each time."""
        from detrojan.learning.fresh import train_net  # noqa: PLC0415

        classes, names = self.classes()
        assert self.net is not None
        return train_net(
            self.net, data, self.fitting, classes=classes, names=names, run=self.run, title=title
        )

    def attacked(self, attack: Attack) -> Attacked:
        """Poison the data and train on them, or let the attack train."""
        from detrojan.attacks.base import PoisoningAttack, TrainingAttack  # noqa: PLC0415
        from detrojan.learning.fresh import start_net  # noqa: PLC0415

        if isinstance(attack, TrainingAttack):
            if self.net is None:
                raise OptionError(f"expected --net NAME: {attack.name} trains the network itself")
            classes, names = self.classes()
            start = start_net(self.net, self.train.shape, classes=classes, names=names, run=self.run)
            planted = attack.train(start, self.train, run=self.run, how=self.fitting)
            return Attacked(model=planted.model, backdoors=planted.backdoors)
        assert isinstance(attack, PoisoningAttack)
        with self.run.progress.task(f"attack {attack.name}", 1) as task:
            poisoned = attack.poison(self.train, run=self.run)
            task.advance(1)
        title = "training the backdoored network"
        model = None if self.net is None else self.trained(poisoned.data, title)
        return Attacked(model=model, backdoors=poisoned.backdoors, poisoned=poisoned)

    def values(self, attack: Attack, attacked: Attacked, twin: Classifier | None) -> dict[str, Any]:
        """Return the record of the attack: what was planted and what the networks do on held-out data."""
        from detrojan.metrics.accuracy import clean_accuracy  # noqa: PLC0415
        from detrojan.records import plain  # noqa: PLC0415
        from detrojan.report.report import data_facts  # noqa: PLC0415

        truth = self.test.require_labels("measuring an attack")
        planted, poisoned = [], attacked.poisoned
        for number, backdoor in enumerate(attacked.backdoors):
            aim, images = backdoor.aim, self.test.images
            aim.moved(truth)  # also where there is no network to ask: no image to move is an error
            entry = {
                "target": aim.target,
                "offset": aim.offset,
                "source": aim.source,
                "trigger": f"trigger_{number}.safetensors",
                "poisoned": None if poisoned is None else int((poisoned.which == number).sum()),
                "attack_success": None
                if attacked.model is None
                else backdoor.success(attacked.model, images, truth),
            }
            if twin is not None:
                entry["attack_success_on_clean_twin"] = backdoor.success(twin, images, truth)
            planted.append(entry)

        def accuracy(model: Classifier | None) -> float | None:
            return None if model is None else clean_accuracy(model, self.test)

        return {
            "schema": "detrojan.attack/1",
            "method": attack.name,
            "hyper_parameters": attack.hyper_parameters(),
            "clean_label": attack.clean_label,
            "net": self.net,
            "fitting": plain(vars(self.fitting)),
            "seed": self.run.seed,
            "data": data_facts(self.train).model_dump(mode="json"),
            "held_out": len(self.test),
            "clean_accuracy": accuracy(attacked.model),
            "clean_accuracy_of_clean_twin": accuracy(twin),
            "backdoors": planted,
            "covers": 0 if poisoned is None else len(poisoned.covers),
            "command": self.command,
        }
