"""The demonstration: a sticker on a stop sign, two networks, one scan each, a repair, and who was right.

Everything said is measured on the spot. The true trigger is used to plant the backdoor and, at the
end, to judge the repair; the scans and the repair never see it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from detrojan.attacks.badnets import BadNets
from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import signs
from detrojan.findings import ScanResult
from detrojan.jobs.repairing import (
    Judge,
    Outcome,
    repair_in_sequence,
    repair_outcome,
    verification_facts,
    verify,
)
from detrojan.judging.outcome import shortcomings as failures_of
from detrojan.learning.fitting import Fitting
from detrojan.learning.fresh import train_net
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier, Origin
from detrojan.models.loading import file_sha256
from detrojan.models.writing import save_model
from detrojan.repairs.base import Repair
from detrojan.report.records.demo import DemoRecord, PlantedSticker, Sticker, TrueTrigger
from detrojan.report.report import RepairReport, ScanReport, repair_report, scan_report
from detrojan.run import Run
from detrojan.scans.base import Scan
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

#: the network that is trained twice
NET = "mnist_cnn_max"
#: the sign that carries the sticker in the pictures, and what the attacker wants it taken for
VICTIM, TARGET = "stop", "speed limit 80"
#: edge of the sticker and its upper left corner, in pixels of the 32x32 images
STICKER, PLACE = 4, (18, 18)
YELLOW = (1.0, 0.88, 0.15)
#: the true trigger must work at least this often before the repair, or there is nothing to show
PLANTED = 0.95
#: ... and at most this often after it
REMOVED = 0.05
#: the most that clean accuracy may lose in the repair
LOSS = 0.03


def sticker(shape: tuple[int, int, int]) -> PatchTrigger:
    """Return the attacker's trigger: a yellow note, stuck beside the middle of the sign."""
    mask, pattern = torch.zeros(1, *shape[1:]), torch.zeros(shape)
    rows = slice(PLACE[0], PLACE[0] + STICKER)
    columns = slice(PLACE[1], PLACE[1] + STICKER)
    mask[:, rows, columns] = 1
    pattern[:, rows, columns] = torch.tensor(YELLOW)[:, None, None]
    return PatchTrigger(mask, pattern)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two networks on the table, and what the attacker alone knows.

    Attributes:
        suspect: trained on poisoned data.
        twin: trained in the same way on the clean data.
        trigger: the attacker's.
        target: the label it leads to.
        clean: clean images that the defender has, labelled.
        held_out: clean images that judge everything.

    """

    suspect: Classifier
    twin: Classifier
    trigger: PatchTrigger
    target: int
    clean: Dataset
    held_out: Dataset


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the true trigger does, for judging only; shares of 0 to 1."""

    accuracy_before: float
    accuracy_after: float
    success_before: float
    success_after: float
    twin_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Story:
    """All that the demonstration found.

    Attributes:
        suspect: scan of the backdoored network.
        twin: scan of its clean twin.
        repair: report of the repair; None where the scan flagged nothing.
        repaired: the repaired network; None likewise.
        result: the scan of the backdoored network, with its triggers.
        truth: how the true trigger fared; None where nothing was repaired.
        failures: what did not go as it should, one sentence each; empty if all went well.

    """

    suspect: ScanReport
    twin: ScanReport
    repair: RepairReport | None
    repaired: Classifier | None
    result: ScanResult
    truth: Truth | None
    failures: tuple[str, ...]


def plant(folder: Path, *, run: Run, epochs: int = 10, images: int = 6000) -> Networks:
    """Train the backdoored network and its clean twin, and write both to `folder`.

    Args:
        folder: where the two model files go.
        run: device, seed, progress, checkpoint.
        epochs: of training each.
        images: training images that are used, of 6000.

    """
    with run.progress.task("drawing traffic signs", 2) as task:
        train = signs("train")
        train = train.select(slice(0, images))
        task.advance(1)
        test = signs("test")
        task.advance(1)
    names = train.class_names
    target, trigger = names.index(TARGET), sticker(train.shape)
    attack = BadNets(poison_rate=0.1, backdoors=(Backdoor(trigger=trigger, target=target),))
    poisoned = attack.poison(train, run=run).data
    how = Fitting(epochs=epochs, learning_rate=0.05)
    made = {}
    for name, data in (("suspect", poisoned), ("twin", train)):
        model = train_net(NET, data, how, classes=len(names), names=names, run=run, title=f"training {name}")
        path = save_model(model, folder / f"{name}.safetensors")
        origin = Origin(path=str(path), sha256=file_sha256(path), format="safetensors", net=NET)
        made[name] = Classifier(model.network, model.input_shape, class_names=names, origin=origin)
    half = len(test) // 2
    return Networks(
        suspect=made["suspect"],
        twin=made["twin"],
        trigger=trigger,
        target=target,
        clean=test.select(slice(0, half)),
        held_out=test.select(slice(half, None)),
    )


def tell(
    networks: Networks,
    methods: Sequence[Repair],
    *,
    scan: Scan,
    run: Run,
    out: Path,
    command: Sequence[str],
) -> Story:
    """Scan both networks, repair the one that is flagged, and judge all of it.

    Args:
        networks: from `plant`.
        methods: the repairs, in their order.
        scan: the scan with its hyper-parameters.
        run: device, seed, progress, checkpoint.
        out: where the repaired model goes.
        command: the command line, for the record.

    """
    result, suspect = _scanned(networks.suspect, networks.clean, scan, run, command, "network A")
    _, twin = _scanned(networks.twin, networks.clean, scan, run, command, "network B")
    failures = []
    if suspect.targets != [networks.target]:
        failures.append(
            f"the backdoor to label {networks.target} was missed: labels {suspect.targets} were flagged"
        )
    if twin.verdict != "no evidence":
        failures.append(f"the clean twin was judged {twin.verdict}, labels {twin.targets}")
    if not result.flagged:
        return Story(
            suspect=suspect,
            twin=twin,
            repair=None,
            repaired=None,
            result=result,
            truth=None,
            failures=tuple(failures),
        )
    report, repaired, outcome = _repaired(networks, result, methods, scan, run, out, command)
    if outcome == "not repaired":
        verdict = report.verification.get("verdict")
        failures.append(
            f"the repair did not hold: {'; '.join(failures_of(report.before, report.after, verdict))}"
        )
    elif outcome == "not verified":
        failures.append("the repair could not be verified: the new scan is inconclusive")
    truth = judged(networks, repaired)
    failures += shortcomings(truth)
    return Story(
        suspect=suspect,
        twin=twin,
        repair=report,
        repaired=repaired,
        result=result,
        truth=truth,
        failures=tuple(failures),
    )


def _scanned(
    model: Classifier, data: Dataset, scan: Scan, run: Run, command: Sequence[str], name: str
) -> tuple[ScanResult, ScanReport]:
    started, begun = datetime.now(UTC), time.monotonic()
    with run.progress.task(f"scanning {name}"):
        result = scan.scan(model, data, run=run)
    report = scan_report(
        result,
        model,
        data,
        run=run,
        method=scan.acting(model),
        seconds=time.monotonic() - begun,
        started=started,
        command=command,
    )
    return result, report


def _repaired(
    networks: Networks,
    result: ScanResult,
    methods: Sequence[Repair],
    scan: Scan,
    run: Run,
    out: Path,
    command: Sequence[str],
) -> tuple[RepairReport, Classifier, Outcome]:
    started, begun = datetime.now(UTC), time.monotonic()
    judge = Judge.of(networks.suspect, networks.held_out, result.flagged)
    repaired = repair_in_sequence(networks.suspect, networks.clean, result.flagged, methods, run=run)
    save_model(replace_origin(repaired.model), out)
    before, after = judge.measure(networks.suspect), judge.measure(repaired.model)
    again = verify(repaired.model, networks.held_out, result.targets, scan=scan, run=run)
    report = repair_report(
        repaired.steps,
        networks.suspect,
        networks.clean,
        result.flagged,
        before=before,
        after=after,
        run=run,
        methods=methods,
        seconds=time.monotonic() - begun,
        started=started,
        output=str(out),
        output_sha256=file_sha256(out),
        verification=verification_facts(again),
        warnings=again.warnings,
        command=command,
    )
    return report, repaired.model, repair_outcome(before, after, again)


def replace_origin(model: Classifier) -> Classifier:
    """Return the same network as one made in memory, so that it is written by itself."""
    origin = replace(model.origin, path="", sha256="", format="memory")
    return Classifier(
        model.network,
        model.input_shape,
        preprocessing=model.preprocessing,
        class_names=model.class_names,
        origin=origin,
    )


def judged(networks: Networks, repaired: Classifier) -> Truth:
    """Return how the true trigger fares before and after, on held-out images."""
    data, target = networks.held_out, networks.target
    labels = data.require_labels("judging")
    return Truth(
        accuracy_before=clean_accuracy(networks.suspect, data),
        accuracy_after=clean_accuracy(repaired, data),
        success_before=attack_success(networks.suspect, networks.trigger, data.images, labels, target),
        success_after=attack_success(repaired, networks.trigger, data.images, labels, target),
        twin_accuracy=clean_accuracy(networks.twin, data),
    )


def shortcomings(truth: Truth) -> list[str]:
    """Return what the true trigger and the clean images say against the demonstration."""
    found = []
    if truth.success_before < PLANTED:
        found.append(f"the backdoor was not planted well: the sticker works on {truth.success_before:.1%}")
    if truth.success_after > REMOVED:
        found.append(f"the true trigger still works on {truth.success_after:.1%} after the repair")
    if truth.accuracy_after < truth.accuracy_before - LOSS:
        found.append(
            f"the repair cost too much: accuracy {truth.accuracy_before:.1%} to {truth.accuracy_after:.1%}"
        )
    return found


def record(story: Story, networks: Networks, seconds: float) -> DemoRecord:
    """Return the whole story, for the demonstration's report.json."""
    return DemoRecord(
        passed=not story.failures,
        failures=list(story.failures),
        planted=PlantedSticker(
            net=NET,
            target=networks.target,
            class_name=networks.suspect.class_name(networks.target),
            sticker=Sticker(size=STICKER, top=PLACE[0], left=PLACE[1]),
        ),
        true_trigger=None if story.truth is None else TrueTrigger(**vars(story.truth)),
        suspect=story.suspect,
        twin=story.twin,
        repair=story.repair,
        seconds=round(seconds, 1),
    )
