"""What every method promises, as functions that fail where one does not keep it.

`test_contracts` applies them to every method there is, `test_contract_checks` to methods that break
them on purpose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from detrojan.attacks.base import Planted, Poisoned
from detrojan.data.dataset import Dataset
from detrojan.errors import DetrojanError, InterruptedRunError, OptionError
from detrojan.filters.base import Suspects
from detrojan.findings import PIXELS, Finding, ScanResult
from detrojan.guards.base import Calibrated
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.method import Method
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.nets import find_net
from detrojan.repairs.base import Repaired
from detrojan.run import Run
from detrojan.trainers.base import Trained
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
FEW = 6


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


# --- the contracts ----------------------------------------------------------------------------------

NUMBER = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)"
INTERVAL = re.compile(rf"([(\[]){NUMBER}, (?:{NUMBER}|inf)([)\]])")
WORDS = re.compile(rf"(\babove )?{NUMBER} (?:up )?to (below )?{NUMBER}")
ABOVE = re.compile(rf"\b(?:above|more than) {NUMBER}")
OR_MORE = re.compile(rf"{NUMBER} or (?:more|above|higher)|\bat least {NUMBER}")
#: the upper end is the model's or the data's, which only the verb knows
BY_THE_MODEL = re.compile(r"\b0-based\b|\bnames? of a layer\b")


def outside(text: str) -> list[float]:
    """Return values just outside of the range that a hyper-parameter's documentation states.

    Raises:
        AssertionError: it states none.

    """
    if found := INTERVAL.search(text):
        low, high = float(found[2]), found[3]
        wrong = [low if found[1] == "(" else low - 1]
        return wrong if high is None else [*wrong, float(high) + (found[4] == "]")]
    if found := WORDS.search(text):
        low, high = float(found[2]), float(found[4])
        return [low if found[1] else low - 1, high if found[3] else high + 1]
    if found := ABOVE.search(text):
        return [float(found[1])]
    if found := OR_MORE.search(text):
        return [float(found[1] or found[2]) - 1]
    assert BY_THE_MODEL.search(text), (
        f"expected a range such as '1 or more', 'above 0', '0 to 1' or '(0, 1]', got {text!r}"
    )
    return []


def check_shape_of_the_class(method: type[Method]) -> None:
    assert dataclasses.is_dataclass(method)
    assert method.__dataclass_params__.frozen, "expected a frozen dataclass"
    assert "__dataclass_fields__" in vars(method), "expected a dataclass of its own, not its base's"
    for field in dataclasses.fields(method):
        assert field.kw_only, f"expected {field.name} to be keyword-only"
    made = method()
    assert made == method()
    record = json.loads(json.dumps(made.hyper_parameters()))
    assert set(record) == {field.name for field in dataclasses.fields(method)}


def check_documentation(method: type[Method]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", method.name), method.name
    assert method.summary().endswith("."), "expected a docstring that begins with a sentence"
    assert method.reference(), "expected a line 'Reference: ...' in the docstring"
    documented = method.parameter_docs()
    names = [field.name for field in dataclasses.fields(method)]
    assert list(documented) == names, "expected an Args entry per hyper-parameter, in their order"
    for field in dataclasses.fields(method):
        if type(field.default) in {int, float}:
            outside(documented[field.name])


def check_ranges(method: type[Method]) -> None:
    documented = method.parameter_docs()
    hints = typing.get_type_hints(method)
    for field in dataclasses.fields(method):
        wrong: list[Any] = []
        if type(field.default) in {int, float}:
            wrong = [type(field.default)(value) for value in outside(documented[field.name])]
        elif typing.get_origin(hints[field.name]) is typing.Literal:
            wrong = ["none of these"]
        for value in wrong:
            with pytest.raises(OptionError) as caught:
                method(**{field.name: value})
            assert re.search(r"expected .*got", str(caught.value)), str(caught.value)


def check_same_seed_same_result(method: Method) -> None:
    results = []
    for disturbance in (1, 2):
        model = tiny_model()
        with torch.random.fork_rng():
            torch.manual_seed(disturbance)
            before = torch.get_rng_state()
            results.append(list(flat(use(method, model, tiny_data(), Run(seed=3)))))
            assert torch.equal(torch.get_rng_state(), before), "the global generator was used or seeded"
    assert results[0] == results[1], "the same seed gave two results"


def check_nothing_given_is_changed(method: Method) -> None:
    model, data = tiny_model(), tiny_data()
    model_before, data_before = state_of(model), list(flat(data))
    use(method, model, data, Run(seed=3))
    assert list(flat(data)) == data_before, "the data changed"
    for what, value in state_of(model).items():
        assert value == model_before[what], f"the model's {what} changed"


class Stopping:
    """Stops the work at its n-th advance, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Stopping]:
        yield self

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptedRunError("stopped by the test")


def check_continues_where_it_stopped(method: Method, folder: Path) -> None:
    def result(run: Run) -> list[tuple[str, Any]]:
        return list(flat(use(method, tiny_model(), tiny_data(), run)))

    whole = result(Run(seed=3))
    # the first of them finds another seed's state, which is not to be used
    result(Run(seed=4, checkpoint=folder / "1"))
    for after in (1, 2, 5):
        kept = folder / str(after)
        with contextlib.suppress(InterruptedRunError):
            result(Run(seed=3, checkpoint=kept, progress=Stopping(after)))
        assert result(Run(seed=3, checkpoint=kept)) == whole, f"stopped at advance {after}"
    assert result(Run(seed=3, checkpoint=kept)) == whole, "run again when it was done"


def other_values(method: Method, name: str) -> Iterator[Any]:
    """Yield values that a hyper-parameter might have instead; some may be out of its range."""
    value, hint = getattr(method, name), typing.get_type_hints(type(method))[name]
    if typing.get_origin(hint) is typing.Literal:
        yield from (choice for choice in typing.get_args(hint) if choice != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value + 4, value - 1)
    elif isinstance(value, float):
        yield from (value * 0.7, value + 0.1, value * 1.3)
    elif Trigger in typing.get_args(hint):
        yield PatchTrigger.corner(SHAPE, size=4, where="top left")
    elif value is None and int in typing.get_args(hint):
        yield 2


def variations(method: Method) -> Iterator[tuple[str, Method]]:
    """Yield the method with one hyper-parameter changed at a time, where another value of it is known."""
    for field in dataclasses.fields(method):
        for value in other_values(method, field.name):
            with contextlib.suppress(OptionError):
                yield field.name, dataclasses.replace(method, **{field.name: value})
                break


def check_trainings_are_told_apart(method: type[Method], folder: Path) -> int:
    """Return how many variations were tried; none where the method trains nothing."""

    def result(varied: Method, run: Run) -> list[tuple[str, Any]] | str:
        try:
            return list(flat(use(varied, tiny_model(), tiny_data(), run)))
        except DetrojanError as error:
            return str(error)

    plain = small(method, few=2)
    kept = Run(seed=3, checkpoint=folder)
    result(plain, kept)
    if not list(folder.glob("fit-*")):
        return 0
    tried = list(variations(plain))
    for name, varied in tried:
        assert result(varied, kept) == result(varied, Run(seed=3)), (
            f"with another {name}, a training of the method as it was is taken for the varied one's"
        )
    return len(tried)


def check_silence(method: Method, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    use(method, tiny_model(), tiny_data(), Run(seed=3))
    assert capfd.readouterr() == ("", ""), "only the command line and the reports speak to people"


def check_poisoned(method: Method) -> None:
    data = tiny_data()
    made = method.poison(data, run=Run(seed=3))
    assert isinstance(made, Poisoned)
    assert made.data.shape == SHAPE
    assert len(made.data) >= len(data)
    assert made.data.labels is not None
    assert made.indices.dtype == made.which.dtype == torch.int64
    assert made.indices.shape == made.which.shape
    assert len(made.indices) > 0, "nothing was poisoned"
    assert torch.equal(made.indices, made.indices.unique()), "expected ascending positions"
    assert 0 <= int(made.indices.min()) <= int(made.indices.max()) < len(made.data)
    assert 0 <= int(made.which.min()) <= int(made.which.max()) < len(made.backdoors)
    assert made.covers.dtype == torch.int64
    assert torch.equal(made.covers, made.covers.unique()), "expected ascending positions"
    assert not torch.isin(made.covers, made.indices).any(), "covers are no poison"
    if len(made.data) == len(data):
        clean = torch.ones(len(data), dtype=torch.bool)
        clean[made.indices] = False
        assert method.clean_label == torch.equal(made.data.labels, data.labels)
        assert torch.equal(made.data.labels[made.covers], data.labels[made.covers]), "a cover changed label"
        clean[made.covers] = False
        assert torch.equal(made.data.images[clean], data.images[clean]), "clean samples were changed"
        changed = (made.data.images != data.images).flatten(1).any(1)
        assert changed[made.indices].all(), "a poisoned sample is as it was"
        assert torch.equal(made.data.labels[clean], data.labels[clean]), "clean labels were changed"
    for backdoor in made.backdoors:
        stamped = backdoor.trigger.stamp(data.images)
        assert stamped.shape == data.images.shape
        assert 0 <= float(stamped.min()) <= float(stamped.max()) <= 1


def shared_tensors(one: Classifier, other: Classifier) -> set[int]:
    """Return where the memory of two models is the same."""
    mine, theirs = (
        {tensor.data_ptr() for tensor in model.network.state_dict().values() if tensor.numel()}
        for model in (one, other)
    )
    return mine & theirs


def check_planted(method: Method) -> None:
    model, data = tiny_model(), tiny_data()
    made = method.train(model, data, run=Run(seed=3))
    assert isinstance(made, Planted)
    assert not shared_tensors(model, made.model), "the attacked model shares tensors with the one given"
    assert made.model.all_logits(data.images).shape == (COUNT, CLASSES)
    assert made.backdoors
    for backdoor in made.backdoors:
        stamped = backdoor.trigger.stamp(data.images)
        assert stamped.shape == data.images.shape
        assert 0 <= float(stamped.min()) <= float(stamped.max()) <= 1


def check_scanned(method: Method) -> None:
    for data in (tiny_data(), tiny_data().with_labels(None)):
        result = method.scan(tiny_model(), data, run=Run(seed=3), labels=[2, 0])
        assert isinstance(result, ScanResult)
        assert result.verdict in {"backdoored", "no evidence", "inconclusive"}
        assert result.reason
        assert (result.verdict == "backdoored") == bool(result.targets)
        assert [finding.label for finding in result.findings] == [0, 2]
        assert result.passes >= 0
        json.dumps(result.details)
        for finding in result.findings:
            assert finding.anomaly_index is None or finding.anomaly_index >= 0
            unknown = finding.trigger is None and finding.attack_success is None
            assert unknown or 0 <= finding.attack_success <= 1
            assert finding.p_value is None or 0 <= finding.p_value <= 1
            assert (finding.size is None) == (finding.unit is None)
            assert finding.size is None or 0 <= finding.size <= SHAPE[1] * SHAPE[2]
            if finding.trigger is not None:
                assert finding.trigger.stamp(data.images).shape == data.images.shape


def check_repaired(method: Method) -> None:
    for data in (tiny_data(), tiny_data().with_labels(None)):
        model = tiny_model()
        made = method.repair(model, data, tiny_findings(), run=Run(seed=3))
        assert isinstance(made, Repaired)
        assert not shared_tensors(model, made.model), "the repaired model shares tensors with the one given"
        logits = made.model.all_logits(data.images)
        assert logits.shape in {(COUNT, CLASSES), (COUNT, CLASSES + 1)}
        assert bool(logits.isfinite().all())
        assert made.steps
        for step in made.steps:
            assert step.method
            assert step.summary
            assert len({len(series) for series in step.curves.values()}) <= 1
            json.dumps([step.curves, step.details])
    needy = pytest.raises(OptionError, match="no findings")
    with needy if method.needs_triggers() else contextlib.nullcontext():
        assert method.repair(tiny_model(), tiny_data(), [], run=Run(seed=3)).steps


def check_calibrated(method: Method) -> None:
    for data in (tiny_data(), tiny_data().with_labels(None)):
        model = tiny_model()
        made = method.calibrate(model, data, run=Run(seed=3))
        assert isinstance(made, Calibrated)
        assert made.model is model
        assert made.method == method
        assert math.isfinite(made.threshold)
        scores = made.score(data.images)
        assert scores.shape == (COUNT,)
        assert bool(scores.isfinite().all())
        assert torch.equal(made.suspicious(scores), scores >= made.threshold)
        answers = made.answers_with_class(data.images)
        assert torch.equal(answers == CLASSES, made.suspicious(scores))
        with TemporaryDirectory() as folder:
            again = load_guard(save_guard(made, folder), model)
        assert torch.equal(again.score(data.images), scores)
        assert list(flat(again)) == list(flat(made))


def check_trained(method: Method) -> None:
    data = tiny_data()
    for poisoned in (None, torch.arange(5)):
        model = tiny_model()
        made = method.train(model, data, run=Run(seed=3), poisoned=poisoned)
        assert isinstance(made, Trained)
        given = {tensor.data_ptr() for tensor in model.network.state_dict().values() if tensor.numel()}
        own = {tensor.data_ptr() for tensor in made.model.network.state_dict().values() if tensor.numel()}
        assert not given & own, "the trained model shares tensors with the one that was given"
        assert bool(made.model.all_logits(data.images).isfinite().all())
        assert made.isolated.dtype == torch.int64
        assert len(made.isolated.unique()) == len(made.isolated) < COUNT
        assert set(made.isolated.tolist()) <= set(range(COUNT))
        assert made.steps
        for step in made.steps:
            assert step.summary
            assert {len(series) for series in step.curves.values()} == {len(step.curves["epoch"])}
            assert ("poisoned loss" in step.curves) == (poisoned is not None)
            json.dumps([step.curves, step.details])


def check_suspects(method: Method) -> None:
    data = tiny_data()
    found = method.suspect(data, model=tiny_model(), run=Run(seed=3))
    assert isinstance(found, Suspects)
    assert found.scores.shape == found.flagged.shape == (COUNT,)
    assert found.flagged.dtype == torch.bool
    assert bool(found.scores.isfinite().all())
    assert sorted(found.positions.tolist()) == found.flagged.nonzero().flatten().tolist()
    assert set(found.classes) <= set(range(CLASSES))
    json.dumps(found.classes)


RESULTS = {
    ("attacks", "poison"): check_poisoned,
    ("attacks", "train"): check_planted,
    ("scans", "scan"): check_scanned,
    ("repairs", "repair"): check_repaired,
    ("guards", "calibrate"): check_calibrated,
    ("trainers", "train"): check_trained,
    ("filters", "suspect"): check_suspects,
}
