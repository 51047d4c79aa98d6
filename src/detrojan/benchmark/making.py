"""Makes what a cell needs: the material, the clean twin, and the attacked network; each once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from detrojan.attacks.base import Attack, Poisoned, PoisoningAttack, TrainingAttack
from detrojan.benchmark.cache import Cache, key_of
from detrojan.benchmark.materials import Material, Paths, identity, prepare
from detrojan.benchmark.parts import NONE, AttackPlan, Cell
from detrojan.benchmark.plan import Plan
from detrojan.benchmark.provenance import code_digest
from detrojan.benchmark.settings import fitting_of, method_of
from detrojan.benchmark.stamping import attack_of, backdoors_of
from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.learning.fresh import start_net
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.run import Progress, Run, SilentProgress
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.base import Trigger

_MODEL, _POISON = "model.safetensors", "poison.safetensors"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network that defences are tried on.

    Attributes:
        model: with the backdoor, or the clean one where there is no attack.
        backdoors: what was planted.
        poisoned: the data it was trained on, where an attack poisons data.
        twin: the same network, trained on the clean data; None beside a delivered network.
        seconds: what making model and twin took when they were made.

    """

    model: Classifier
    backdoors: tuple[Backdoor, ...]
    poisoned: Poisoned | None
    twin: Classifier | None
    seconds: dict[str, float]


@dataclass(kw_only=True)
class Workshop:
    """Makes and keeps what cells share.

    Attributes:
        plan: the plan.
        paths: where data and other files lie.
        cache: where trained networks are kept.
        device: to train on.
        mixed_precision: networks are trained in bfloat16; None for where it is usual, on a GPU.
        progress: who shows the progress.
        measured: what subjects do without a defence, by what they depend on.

    """

    plan: Plan
    paths: Paths
    cache: Cache
    device: str = "cpu"
    mixed_precision: bool | None = None
    progress: Progress = field(default_factory=SilentProgress)
    measured: dict[str, Any] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)
    _material: tuple[tuple[str, int], Material] | None = None
    _subject: tuple[str, Subject] | None = None

    def run(self, seed: int, checkpoint: Path | None = None) -> Run:
        """Return the surroundings of a piece of work."""
        usual = torch.device(self.device).type == "cuda"
        mixed = usual if self.mixed_precision is None else self.mixed_precision
        return Run(
            seed=seed,
            device=self.device,
            progress=self.progress,
            checkpoint=checkpoint,
            mixed_precision=mixed,
        )

    def fitting(self, cell: Cell) -> Fitting:
        """Return how a cell's network is trained in this profile; an attacker may train in his own way."""
        epochs = {"epochs": self.plan.sizes.epochs} if self.plan.sizes.epochs else {}
        attack = self.plan.attacks.get(cell.attack)
        own = attack.fitting if attack is not None else {}
        return fitting_of({**epochs, **self.plan.networks[cell.network].fitting, **own})

    def depends(self, cell: Cell) -> dict[str, Any]:
        """Return all that the subject of a cell depends on, except for the code."""
        network = self.plan.networks[cell.network]
        data = identity(cell.data, self.plan.data[cell.data], self.paths, self.plan.sizes, self._digests)
        return {
            "data": data,
            "data_name": cell.data,  # the draws of a seed are named by it
            "network": network.model_dump(mode="json", exclude={"about", "fitting"}),
            "fitting": vars(self.fitting(cell)),
            "attack": self._attack_identity(cell.attack),
            "seed": cell.seed,
            "device": torch.device(self.device).type,
            **({} if self.mixed_precision is None else {"mixed_precision": self.mixed_precision}),
        }

    def _attack_identity(self, name: str) -> Any:
        if name == NONE:
            return None
        plan = self.plan.attacks[name]
        record: dict[str, Any] = plan.model_dump(mode="json", exclude={"about", "fitting"})
        if plan.method:
            record["hyper_parameters"] = method_of("attacks", plan.method, plan.set).hyper_parameters()
        files = [plan.model] if plan.model else []
        triggers = [plan.trigger, *(backdoor.trigger for backdoor in plan.backdoors)]
        files += [trigger.npz for trigger in triggers if trigger is not None and trigger.npz]
        files = [self.paths.get(file, "") for file in files]
        for trigger in triggers:
            if trigger is not None and (trigger.picture or trigger.file):
                files.append(str(Path(self.plan.folder) / (trigger.picture or trigger.file)))
        record["files"] = [self._file_digest(file) for file in files]
        return record

    def _file_digest(self, path: str) -> str:
        if not path or not Path(path).is_file():
            return "missing"
        if path not in self._digests:
            self._digests[path] = key_of(Path(path).read_bytes().hex())
        return self._digests[path]

    def code(self, cell: Cell) -> str:
        """Return the digest of the code that the subject of a cell depends on."""
        return code_digest([__name__, *self._attack_modules(cell.attack)])

    def _attack_modules(self, name: str) -> Sequence[str]:
        plan = self.plan.attacks.get(name)
        if plan is None or not plan.method:
            return []
        return modules_of(method_of("attacks", plan.method, plan.set))

    def material(self, cell: Cell) -> Material:
        """Return the data of a cell; the last ones are kept."""
        key = (cell.data, cell.seed)
        if self._material is None or self._material[0] != key:
            self._material = None
            made = prepare(
                cell.data,
                self.plan.data[cell.data],
                self.paths,
                self.plan.sizes,
                run=self.run(cell.seed),
            )
            self._material = (key, made)
        return self._material[1]

    def subject(self, cell: Cell) -> Subject:
        """Return the network that the defence of a cell is tried on; the last one is kept."""
        key = key_of(self.depends(cell))
        if self._subject is None or self._subject[0] != key:
            self._subject = None
            self._subject = (key, self._made(cell))
        return self._subject[1]

    def _made(self, cell: Cell) -> Subject:
        plan = self.plan.attacks.get(cell.attack)
        if plan is not None and plan.model:
            return self._delivered(cell, plan)
        twin, twin_record = self._twin(cell)
        seconds = {"twin": twin_record["seconds"]}
        if plan is None:
            return Subject(model=twin, backdoors=(), poisoned=None, twin=twin, seconds=seconds)
        subject, record = self._attacked(cell, plan, twin)
        return replace(subject, twin=twin, seconds={**seconds, "attack": record["seconds"]})

    def _delivered(self, cell: Cell, plan: AttackPlan) -> Subject:
        if plan.model not in self.paths:
            raise OptionError(f"expected --data {plan.model}=FILE: the plan judges this network")
        model = load_model(self.paths[plan.model], net=self.plan.networks[cell.network].net)
        shape = model.input_shape
        backdoors = backdoors_of(plan.backdoors, shape, folder=self.plan.folder, paths=self.paths)
        model.check(self.material(cell).test.images)
        return Subject(model=model.to(self.device), backdoors=backdoors, poisoned=None, twin=None, seconds={})

    def start(self, cell: Cell, run: Run) -> Classifier:
        """Return the network of a cell before its training; equal seeds give equal starts."""
        material = self.material(cell)
        classes, names = material.classes()
        net = self.plan.networks[cell.network].net
        return start_net(net, material.train.shape, classes=classes, names=names, run=run)

    def _trained(self, cell: Cell, data: Dataset, run: Run, title: str) -> Classifier:
        network = self.plan.networks[cell.network]
        model = self.start(cell, run)
        moved = shift(network.shift, flip=network.flip) if network.shift or network.flip else None
        fit(
            model,
            data,
            self.fitting(cell),
            run=run,
            title=title,
            augment=moved,
            identity={"shift": network.shift, "flip": network.flip},
        )
        return model

    def _twin(self, cell: Cell) -> tuple[Classifier, dict[str, Any]]:
        clean = cell.model_copy(update={"attack": NONE})
        begun = time.monotonic()

        def make(folder: Path) -> Classifier:
            title = f"{cell.data}: training the clean twin"
            return self._trained(clean, self.material(cell).train, self.run(cell.seed, folder), title)

        def write(model: Classifier, place: Path) -> dict[str, Any]:
            _write_model(model, place)
            return {"seconds": round(time.monotonic() - begun, 3)}

        def read(place: Path, _record: dict[str, Any]) -> Classifier:
            return self._read_model(place, cell)

        return self.cache.get(
            "twin", self.depends(clean), self.code(clean), make=make, write=write, read=read
        )

    def _attacked(self, cell: Cell, plan: AttackPlan, twin: Classifier) -> tuple[Subject, dict[str, Any]]:
        begun = time.monotonic()

        def make(folder: Path) -> Subject:
            material, run = self.material(cell), self.run(cell.seed, folder)
            surrogate = twin if plan.surrogate else None
            attack = attack_of(
                plan, material.train.shape, folder=self.plan.folder, paths=self.paths, twin=surrogate
            )
            return self._run_attack(cell, attack, run)

        def write(subject: Subject, place: Path) -> dict[str, Any]:
            _write_model(subject.model, place)
            for number, backdoor in enumerate(subject.backdoors):
                backdoor.trigger.save(place / f"trigger_{number}.safetensors")
            if subject.poisoned is not None:
                _write_poison(subject.poisoned, self.material(cell).train, place)
            return {
                "seconds": round(time.monotonic() - begun, 3),
                "backdoors": [
                    {"target": one.aim.target, "source": one.aim.source, "offset": one.aim.offset}
                    for one in subject.backdoors
                ],
                "poisoned": None if subject.poisoned is None else len(subject.poisoned.indices),
            }

        def read(place: Path, record: dict[str, Any]) -> Subject:
            backdoors = tuple(
                Backdoor(trigger=Trigger.load(place / f"trigger_{number}.safetensors"), **asked)
                for number, asked in enumerate(record["backdoors"])
            )
            poisoned = None
            if record["poisoned"] is not None:
                poisoned = _read_poison(place, self.material(cell).train, backdoors)
            model = self._read_model(place, cell)
            return Subject(model=model, backdoors=backdoors, poisoned=poisoned, twin=None, seconds={})

        return self.cache.get(
            "attack", self.depends(cell), self.code(cell), make=make, write=write, read=read
        )

    def _run_attack(self, cell: Cell, attack: Attack, run: Run) -> Subject:
        material = self.material(cell)
        title = f"{cell.data}: training with {cell.attack}"
        if isinstance(attack, TrainingAttack):
            how = self.fitting(cell)
            planted = attack.train(self.start(cell, run), material.train, run=run, how=how)
            return Subject(
                model=planted.model, backdoors=planted.backdoors, poisoned=None, twin=None, seconds={}
            )
        assert isinstance(attack, PoisoningAttack)
        poisoned = attack.poison(material.train, run=run)
        model = self._trained(cell, poisoned.data, run, title)
        return Subject(model=model, backdoors=poisoned.backdoors, poisoned=poisoned, twin=None, seconds={})

    def _read_model(self, place: Path, cell: Cell) -> Classifier:
        model = self.start(cell, self.run(cell.seed))
        model.network.load_state_dict(_tensors(place / _MODEL))
        model.network.eval()
        return model.to(self.device)


def modules_of(method: object) -> list[str]:
    """Return the modules that a method's class and its bases are written in."""
    return [kind.__module__ for kind in type(method).__mro__ if kind.__module__.startswith("detrojan.")]


def _write_model(model: Classifier, place: Path) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    safetensors.torch.save_file(state, place / _MODEL)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _write_poison(poisoned: Poisoned, clean: Dataset, place: Path) -> None:
    """Write what the attack changed, and nothing else of the data."""
    changed = torch.cat([poisoned.indices, poisoned.covers]).sort().values
    assert len(poisoned.data) == len(clean)
    tensors = {
        "indices": poisoned.indices,
        "which": poisoned.which,
        "covers": poisoned.covers,
        "images": poisoned.data.images[changed].contiguous(),
        "labels": poisoned.data.require_labels("poison")[changed].contiguous(),
    }
    safetensors.torch.save_file(tensors, place / _POISON)


def _read_poison(place: Path, clean: Dataset, backdoors: tuple[Backdoor, ...]) -> Poisoned:
    found = _tensors(place / _POISON)
    changed = torch.cat([found["indices"], found["covers"]]).sort().values
    images, labels = clean.images.clone(), clean.require_labels("poison").clone()
    images[changed], labels[changed] = found["images"], found["labels"]
    data = replace(
        clean, images=images, labels=labels, source=f"{clean.source} (poisoned)", sha256="", notes=()
    )
    return Poisoned(
        data=data,
        indices=found["indices"],
        which=found["which"],
        backdoors=backdoors,
        covers=found["covers"],
    )
