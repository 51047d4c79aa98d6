"""`detrojan attack`: make test material, a network with a backdoor whose trigger is known."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.cli import types
from detrojan.cli.options import (
    FILE,
    DataOptions,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    run_options,
    set_option,
)
from detrojan.cli.state import current
from detrojan.errors import InputError, LabelError, OptionError

if TYPE_CHECKING:
    from detrojan.attacks.base import Attack, Backdoor, Poisoned
    from detrojan.data.dataset import Dataset
    from detrojan.fitting import Fitting
    from detrojan.models.classifier import Classifier
    from detrojan.run import Run
    from detrojan.triggers.base import Trigger


@click.command(
    "attack",
    short_help="Make test material: a model with a known backdoor.",
    epilog="\b\nExamples:\n"
    "  detrojan attack badnets --data signs --net badnets_cnn --target 2 --clean --out attacked\n"
    "  detrojan attack badnets --data signs --net badnets_cnn --out attacked \\\n"
    "      --backdoor sticker.png:2@17,17 --backdoor flower.png:7@4,4",
)
@click.argument("method")
@data_options(samples="  [default: all]")
@click.option("--net", required=True, metavar="NAME", help="The network (see: detrojan list nets).")
@click.option("--test", "test_data", metavar="PATH", help="Held-out data.  [default: test split, or 20%]")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="The folder that is written.")
@click.option(
    "--target",
    type=click.IntRange(min=-1),
    metavar="LABEL",
    help="The label asked for; -1: any but the truth.",
)
@click.option(
    "--source",
    type=click.IntRange(min=0),
    metavar="LABEL",
    help="The only label it works on.  [default: all]",
)
@click.option(
    "--poison-rate", type=float, help="Share of the images that is poisoned (of which: list attacks)."
)
@click.option("--trigger-image", type=FILE, metavar="PICTURE", help="Stamped instead of the default patch.")
@click.option("--at", "place", type=types.PLACE, help="Where its upper left corner goes.  [default: 0,0]")
@click.option("--size", type=types.SIZE, help="Bring the picture to this size first.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True), help="Opacity of the trigger.")
@click.option(
    "--backdoor",
    "backdoors",
    multiple=True,
    metavar="PICTURE:TARGET[@TOP,LEFT]",
    help="One of several triggers with a target of its own. May be repeated.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    metavar="N",
    default=10,
    show_default=True,
    help="Training epochs.",
)
@click.option(
    "--fit",
    "fit_settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another setting of the training, e.g. learning_rate=0.02. May be repeated.",
)
@click.option("--clean", is_flag=True, help="Also train a clean twin on the unpoisoned data.")
@set_option("attack")
@format_option()
@run_options
def command(
    method: str, data: DataOptions, net: str, out: Path, format_: str, surroundings: RunOptions, **asked: Any
) -> int:
    """Poison --data with METHOD, train a network on them, and write both with the true trigger.

    The folder then holds model.safetensors, trigger_N.safetensors and .png, stamped.png, poisoned.npz,
    poisoned.png (training images above, as the attack left them below; covers.png where it has
    covers), attack.json, and with --clean also clean.safetensors. An attack that trains the network
    itself leaves no poisoned data.
    """
    from detrojan.cli.outputs import emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.cli.surroundings import kept, start  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    if out.exists() and not out.is_dir():
        raise InputError(f"expected a folder to write to, got the file {out}")
    train, test = _data(data, asked["test_data"], run)
    attack = _attack(method, asked, train.shape)
    with kept(run, surroundings, train.sha256) as run:
        job = Job(run=run, net=net, train=train, test=test, fitting=_fitting(asked))
        attacked = job.attacked(attack)
        twin = job.trained(train, "training the clean twin") if asked["clean"] else None
        values = job.values(attack, attacked, twin)
        values["seconds"] = round(time.monotonic() - begun, 3)
        write_folder(out, job, attacked, twin)
    emit_values(
        values,
        OutputOptions(format_=format_, json_file=out / "attack.json", html_file=None),
        _text(values, out),
    )
    return 0


def _data(options: DataOptions, test: str | None, run: Run) -> tuple[Dataset, Dataset]:
    """Return training data and held-out data: what was stated, the test split, or a fifth."""
    from detrojan.cli.inputs import load_data  # noqa: PLC0415
    from detrojan.errors import DataError  # noqa: PLC0415

    try:
        train = load_data(replace(options, split=options.split or "train"), run)
    except DataError:
        if options.split is not None:
            raise
        train = load_data(options, run)
    train.require_labels("an attack")
    if test is not None:
        held = load_data(replace(options, split=None, samples=None), run, source=test)
    elif options.split is None:
        try:
            held = load_data(replace(options, split="test", samples=None), run)
        except DataError:
            held, train = train.split(max(1, len(train) // 5), run.generator("held out"))
    else:
        held, train = train.split(max(1, len(train) // 5), run.generator("held out"))
    held.require_labels("measuring an attack")
    if held.shape != train.shape:
        raise InputError(f"expected held-out images of shape {train.shape}, got {held.shape}")
    return train, held


def _attack(method: str, asked: dict[str, Any], shape: tuple[int, int, int]) -> Attack:
    from detrojan import catalog  # noqa: PLC0415
    from detrojan.attacks.base import Attack  # noqa: PLC0415
    from detrojan.cli.settings import method_named  # noqa: PLC0415

    pictures = bool(asked["backdoors"]) or asked["trigger_image"] is not None
    if asked["backdoors"] and asked["trigger_image"] is not None:
        raise OptionError("expected --backdoor or --trigger-image, got both")
    if (asked["place"] or asked["size"]) and not pictures:
        raise OptionError("expected --trigger-image or --backdoor with --at and --size")
    known = {item.name for item in fields(catalog.find("attacks", method))}
    given = [name for name in ("poison_rate", "target", "source", "alpha") if asked[name] is not None]
    if pictures:  # then the opacity is the picture's
        given = [name for name in given if name != "alpha" or name in known]
    settings = [*asked["settings"], *(f"{name}={asked[name]}" for name in given)]
    attack = method_named("attacks", method, settings)
    assert isinstance(attack, Attack)
    return _with_pictures(attack, known, asked, shape) if pictures else attack


def _with_pictures(
    attack: Attack, known: set[str], asked: dict[str, Any], shape: tuple[int, int, int]
) -> Attack:
    """Return the attack with pictures, or triggers out of files, in the stead of its own trigger."""
    from detrojan.attacks.base import Backdoor  # noqa: PLC0415
    from detrojan.cli.inputs import load_trigger  # noqa: PLC0415

    field = "backdoors" if asked["backdoors"] else "trigger"
    if field not in known:
        several = "several pictures as triggers" if asked["backdoors"] else "a picture as its trigger"
        raise OptionError(f"expected an attack that takes {several}, got {attack.name}")

    def trigger(path: Path, place: tuple[int, int] | None) -> Trigger:
        size, alpha = asked["size"], asked["alpha"] or 1.0
        if attack.covers_image and path.suffix.lower() != ".safetensors":
            size, alpha = size or shape[1:], getattr(attack, "alpha", alpha)
        return load_trigger(path, shape, place=place or asked["place"], size=size, alpha=alpha)

    if asked["trigger_image"] is not None:
        return replace(attack, trigger=trigger(asked["trigger_image"], None))  # type: ignore[call-arg]
    wanted = [_backdoor(text) for text in asked["backdoors"]]
    planted = tuple(
        Backdoor(trigger=trigger(path, place), target=None if target < 0 else target, source=asked["source"])
        for path, target, place in wanted
    )
    return replace(attack, backdoors=planted)  # type: ignore[call-arg]


def _backdoor(text: str) -> tuple[Path, int, tuple[int, int] | None]:
    path, colon, rest = text.rpartition(":")
    target, at, place = rest.partition("@")
    try:
        where = types.PLACE.parse(place) if at else None
        label = int(target)
    except ValueError as error:
        raise OptionError(f"expected PICTURE:TARGET or PICTURE:TARGET@TOP,LEFT, got {text!r}") from error
    if not colon or not path or label < -1:
        raise OptionError(f"expected PICTURE:TARGET or PICTURE:TARGET@TOP,LEFT, got {text!r}")
    return Path(path), label, None if where is None else (where[0], where[1])


def _fitting(asked: dict[str, Any]) -> Fitting:
    from detrojan.cli.settings import changed  # noqa: PLC0415
    from detrojan.fitting import Fitting  # noqa: PLC0415

    return changed(Fitting(epochs=asked["epochs"], learning_rate=0.03), asked["fit_settings"])


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A network with backdoors, and the poisoned data unless the attacker trained the network."""

    model: Classifier
    backdoors: tuple[Backdoor, ...]
    poisoned: Poisoned | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an attack is tried on, and how the networks are trained."""

    run: Run
    net: str
    train: Dataset
    test: Dataset
    fitting: Fitting

    def classes(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of classes, and their names where there are as many."""
        classes = 1 + int(max(self.train.require_labels("training").max(), self.test.labels.max()))  # type: ignore[union-attr]
        names = self.train.class_names if len(self.train.class_names) >= classes else ()
        return len(names) or classes, names

    def trained(self, data: Dataset, title: str) -> Classifier:
        """Return a network trained on `data`, from the same start each time."""
        from detrojan.training import train_net  # noqa: PLC0415

        classes, names = self.classes()
        return train_net(
            self.net, data, self.fitting, classes=classes, names=names, run=self.run, title=title
        )

    def attacked(self, attack: Attack) -> Attacked:
        """Poison the data and train on them, or let the attack train."""
        from detrojan.attacks.base import PoisoningAttack, TrainingAttack  # noqa: PLC0415
        from detrojan.training import start_net  # noqa: PLC0415

        if isinstance(attack, TrainingAttack):
            classes, names = self.classes()
            start = start_net(self.net, self.train.shape, classes=classes, names=names, run=self.run)
            planted = attack.train(start, self.train, run=self.run, how=self.fitting)
            return Attacked(model=planted.model, backdoors=planted.backdoors)
        assert isinstance(attack, PoisoningAttack)
        with self.run.progress.task(f"attack {attack.name}", 1) as task:
            poisoned = attack.poison(self.train, run=self.run)
            task.advance(1)
        model = self.trained(poisoned.data, "training the backdoored network")
        return Attacked(model=model, backdoors=poisoned.backdoors, poisoned=poisoned)

    def values(self, attack: Attack, attacked: Attacked, twin: Classifier | None) -> dict[str, Any]:
        """Return the record of the attack: what was planted and what the networks do on held-out data."""
        from detrojan.metrics.accuracy import attack_success, clean_accuracy  # noqa: PLC0415
        from detrojan.report.report import data_facts  # noqa: PLC0415
        from detrojan.report.schema import plain  # noqa: PLC0415

        truth = self.test.require_labels("measuring an attack")
        planted, model, poisoned = [], attacked.model, attacked.poisoned
        for number, backdoor in enumerate(attacked.backdoors):
            chosen = tried_on(truth, backdoor.source)
            images, labels = self.test.images[chosen], truth[chosen]
            if not len(images):
                raise LabelError(f"expected held-out images of the source label {backdoor.source}, got none")
            goal = backdoor.goal(labels, model.num_classes)
            entry = {
                "target": backdoor.target,
                "offset": backdoor.offset,
                "source": backdoor.source,
                "trigger": f"trigger_{number}.safetensors",
                "poisoned": None if poisoned is None else int((poisoned.which == number).sum()),
                "attack_success": attack_success(model, backdoor.trigger, images, labels, goal),
            }
            if twin is not None:
                entry["attack_success_on_clean_twin"] = attack_success(
                    twin, backdoor.trigger, images, labels, goal
                )
            planted.append(entry)
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
            "clean_accuracy": clean_accuracy(model, self.test),
            "clean_accuracy_of_clean_twin": None if twin is None else clean_accuracy(twin, self.test),
            "backdoors": planted,
            "covers": 0 if poisoned is None else len(poisoned.covers),
            "command": current().command,
        }


def tried_on(truth: Any, source: int | None) -> Any:
    """Return which held-out images an attack may be tried on: all, or those of its source label."""
    return slice(None) if source is None else truth == source


def write_folder(out: Path, job: Job, attacked: Attacked, twin: Classifier | None) -> None:
    """Write the networks, the triggers with their pictures, and the poisoned data.

    Raises:
        InputError: a file cannot be written.

    """
    from detrojan.cli.outputs import save_trigger  # noqa: PLC0415
    from detrojan.models.writing import save_model  # noqa: PLC0415
    from detrojan.report.pictures import png, stamped_rows  # noqa: PLC0415
    from detrojan.report.saving import save_bytes  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if attacked.poisoned is not None:
        _write_poisoned(out, attacked.poisoned, job.train)
    save_model(attacked.model, out / "model.safetensors")
    if twin is not None:
        save_model(twin, out / "clean.safetensors")
    for number, backdoor in enumerate(attacked.backdoors):
        save_trigger(backdoor.trigger, out / f"trigger_{number}.safetensors")
        save_bytes(out / f"trigger_{number}.png", png(backdoor.trigger.picture()))
        shown = job.test.images[backdoor.victims(job.test.require_labels("stamping"))][:6]
        name = "stamped.png" if len(attacked.backdoors) == 1 else f"stamped_{number}.png"
        save_bytes(out / name, stamped_rows(shown, backdoor.trigger.stamp(shown)))


def _write_poisoned(out: Path, poisoned: Poisoned, before: Dataset) -> None:
    import numpy as np  # noqa: PLC0415

    from detrojan.report.pictures import stamped_rows  # noqa: PLC0415
    from detrojan.report.saving import save_bytes  # noqa: PLC0415

    data = poisoned.data
    try:
        np.savez_compressed(
            out / "poisoned.npz",
            images=(data.images * 255).round().byte().permute(0, 2, 3, 1).numpy(),
            labels=data.require_labels("poisoning").numpy(),
            indices=poisoned.indices.numpy(),
            covers=poisoned.covers.numpy(),
        )
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    for name, places in (("poisoned.png", poisoned.indices[:6]), ("covers.png", poisoned.covers[:6])):
        if len(places):
            save_bytes(out / name, stamped_rows(before.images[places], data.images[places]))


def _text(values: dict[str, Any], out: Path) -> str:
    from rich.markup import escape  # noqa: PLC0415

    from detrojan.report.words import percent  # noqa: PLC0415

    lines = [f"Clean accuracy {percent(values['clean_accuracy'])} on {values['held_out']:,} held-out images."]
    if values["clean_accuracy_of_clean_twin"] is not None:
        lines.append(f"Clean twin: {percent(values['clean_accuracy_of_clean_twin'])}.")
    for number, entry in enumerate(values["backdoors"]):
        target = "any but the truth" if entry["target"] is None else f"label {entry['target']}"
        if entry["offset"]:
            target = f"the true label plus {entry['offset']}"
        lines.append(
            f"Trigger {number} leads to {target}: attack success {percent(entry['attack_success'])} "
            + ("(trained in)." if entry["poisoned"] is None else f"({entry['poisoned']:,} images poisoned).")
        )
    if values["covers"]:
        lines.append(f"{values['covers']:,} more images were changed and keep their label.")
    lines.append(f"Written to {out}")
    return "\n".join(escape(line) for line in lines)
