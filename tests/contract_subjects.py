"""What the contracts are tried on: a tiny network and tiny data; and how what comes of it is compared."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

from detrojan.data.dataset import Dataset
from detrojan.findings import PIXELS, Finding
from detrojan.method import Method
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.run import Run
from detrojan.triggers.base import Trigger
from detrojan.triggers.patch import PatchTrigger

CLASSES, SHAPE, COUNT = 3, (1, 16, 16), 48

#: hyper-parameters whose name speaks of repetition are cut down, so that a contract takes a second
REPEATED = (
    "steps",
    "epochs",
    "rounds",
    "updates",
    "iterations",
    "restarts",
    "batches",
    "patience",
    "inversions",
    "passes",
    "pool",
)
FEW = 4
#: what counts in thousands is cut down to fewer thousands
FEWER = {"queries": 5000}


# --- what the methods are tried on ------------------------------------------------------------------


def tiny_data() -> Dataset:
    """Three classes, each with another bright band, in noise."""
    chance = torch.Generator().manual_seed(11)
    labels = torch.arange(COUNT) % CLASSES
    images = torch.rand(COUNT, *SHAPE, generator=chance) * 0.4
    for label in range(CLASSES):
        images[labels == label, :, 5 * label : 5 * label + 5] += 0.5
    return Dataset(images, labels, extra={"serial": torch.arange(COUNT)})


@cache
def tiny_weights() -> dict[str, torch.Tensor]:
    """Weights that answer the three classes; trained once, in a moment."""
    data = tiny_data()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = find_net("mnist_cnn").build(CLASSES, SHAPE)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(data.images), data.labels).backward()
        optimiser.step()
    assert clean_accuracy(Classifier(network, SHAPE), data) > 0.9
    return network.state_dict()


def tiny_model() -> Classifier:
    """A small network, partly in training mode and partly frozen, so that restoring can be seen."""
    network = find_net("mnist_cnn").build(CLASSES, SHAPE)
    network.load_state_dict(tiny_weights())
    model = Classifier(network, SHAPE)
    network.train()
    network[0].eval()
    network[0].bias.requires_grad_(requires_grad=False)
    return model


def tiny_findings() -> list[Finding]:
    return [
        Finding(
            label=1,
            anomaly_index=3.0,
            size=9.0,
            unit=PIXELS,
            attack_success=1.0,
            flagged=True,
            trigger=PatchTrigger.corner(SHAPE),
        )
    ]


def small(method: type[Method], few: int = FEW) -> Method:
    """Return the method with its defaults, but few repetitions."""
    changed = {}
    for field in dataclasses.fields(method):
        words = field.name.split("_")
        if type(field.default) is int and field.default > few and set(words) & set(REPEATED):
            changed[field.name] = few
        if field.name in FEWER:
            changed[field.name] = FEWER[field.name]
    return method(**changed)


def use(method: Method, model: Classifier, data: Dataset, run: Run) -> Any:
    """Call the method's verb. A new room is taught here once."""
    findings = tiny_findings()
    verbs: dict[str, Callable[[], Any]] = {
        "poison": lambda: method.poison(data, run=run),
        "scan": lambda: method.scan(model, data, run=run, labels=[2, 0, 1]),
        "repair": lambda: method.repair(model, data, findings, run=run),
        "calibrate": lambda: method.calibrate(model, data, run=run),
        "train": lambda: method.train(model, data, run=run),
        "suspect": lambda: method.suspect(data, model=model, run=run),
    }
    return next(verbs[verb] for verb in verbs if hasattr(method, verb))()


# --- comparing --------------------------------------------------------------------------------------

#: they measure this run, not the result
CLOCKS = {"seconds", "stage_seconds", "duration", "elapsed"}


def inside(value: Any) -> dict[Any, Any] | None:
    """Return the parts of a value by name, or None where it is a plain one."""
    match value:
        case Classifier():
            return dict(value.network.state_dict())
        case Trigger():
            return {"state": value.state()}
        case dict():
            return {key: part for key, part in value.items() if key not in CLOCKS}
        case list() | tuple():
            return dict(enumerate(value))
    if dataclasses.is_dataclass(value):
        # what a class leaves out when its values are compared measures the run too
        return {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare
        }
    return None


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value inside a result, with the way to it."""
    parts = inside(value)
    if parts is not None:
        for name, part in parts.items():
            yield from flat(part, f"{path}.{name}")
    elif isinstance(value, torch.Tensor):
        content = hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        yield path, (tuple(value.shape), str(value.dtype), content)
    else:
        # NaN stands for "no mask" and equals itself here
        yield path, "NaN" if isinstance(value, float) and math.isnan(value) else value


def state_of(model: Classifier) -> dict[str, Any]:
    """Everything about a model that a method must leave alone."""
    network = model.network
    return {
        "weights": list(flat(model)),
        "modes": [module.training for module in network.modules()],
        "needs gradients": [p.requires_grad for p in network.parameters()],
        "gradients": [p.grad is not None for p in network.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()],
        "preprocessing": str(model.preprocessing),
        "device": str(model.device),
    }
