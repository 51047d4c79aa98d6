"""`detrojan attack`: make test material, a network with a backdoor whose trigger is known."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detrojan.console import types
from detrojan.console.options import (
    FILE,
    OutputOptions,
    RunOptions,
    data_options,
    format_option,
    run_options,
    set_option,
)
from detrojan.console.state import current
from detrojan.errors import OptionError
from detrojan.jobs.sources import DataSource

if TYPE_CHECKING:
    from detrojan.attacks.base import Attack
    from detrojan.jobs.attacking import Stamp


@click.command(
    "attack",
    short_help="Make test material: a model with a known backdoor.",
    epilog="\b\nExamples:\n"
    "  detrojan attack badnets --data signs --net badnets_cnn --target 2 --clean --out attacked \\\n"
    "      --set size=4 --fit optimizer=adam --fit learning_rate=0.002\n"
    "  detrojan attack badnets --data signs --net badnets_cnn --out attacked \\\n"
    "      --backdoor sticker.png:2@17,17 --backdoor flower.png:7@4,4",
)
@click.argument("method")
@data_options(samples="  [default: all]")
@click.option("--net", metavar="NAME", help="The network (see: list nets). Without it only data are made.")
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
@click.option(
    "--trigger-image",
    type=FILE,
    metavar="FILE",
    help="Stamped instead of the default patch: a picture, or a saved trigger.",
)
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
    method: str,
    data: DataSource,
    net: str | None,
    out: Path,
    format_: str,
    surroundings: RunOptions,
    **asked: Any,
) -> int:
    """Poison --data with METHOD, train a network on them, and write both with the true trigger.

    The folder then holds model.safetensors, trigger_N.safetensors and .png, stamped.png, poisoned.npz,
    poisoned.png and attack.json. With --clean it also holds clean.safetensors. In poisoned.png the
    training images stand above, and what the attack made of them below; covers.png shows the same for
    covers. An attack that trains the network itself leaves no poisoned data. Without --net only the
    data and the triggers are made.
    """
    from detrojan.console.outputs import check_folder, emit_values  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.console.surroundings import kept, start  # noqa: PLC0415
    from detrojan.jobs.attacking import WRITES, Job, attack_data, write_folder  # noqa: PLC0415
    from detrojan.jobs.settings import changed  # noqa: PLC0415
    from detrojan.learning.fitting import Fitting  # noqa: PLC0415
    from detrojan.report.records.attack import attack_text  # noqa: PLC0415

    run, begun = start(surroundings), time.monotonic()
    if asked["clean"] and net is None:
        raise OptionError("expected --net NAME with --clean")
    check_folder(out, writes=WRITES)
    train, test = attack_data(data, asked["test_data"], run)
    attack = _attack(method, asked, train.shape)
    fitting = changed(Fitting(epochs=asked["epochs"], learning_rate=0.03), asked["fit_settings"])
    with kept(run, surroundings, train.sha256) as run:
        job = Job(run=run, net=net, train=train, test=test, fitting=fitting, command=current().command)
        attacked = job.attacked(attack)
        twin = job.trained(train, "training the clean twin") if asked["clean"] else None
        record = job.record(attack, attacked, twin, begun=begun)
        write_folder(out, job, attacked, twin)
        output = OutputOptions(format_=format_, files={"json": out / "attack.json"})
        emit_values(record.values(), output, attack_text(record, str(out)))
    return 0


def _attack(method: str, asked: dict[str, Any], shape: tuple[int, int, int]) -> Attack:
    """Return the attack as the options say, with the pictures that it stamps."""
    from detrojan import catalog  # noqa: PLC0415
    from detrojan.attacks.base import Attack  # noqa: PLC0415
    from detrojan.jobs.attacking import Stamp, with_stamps  # noqa: PLC0415
    from detrojan.jobs.settings import method_named  # noqa: PLC0415

    stamps = [_backdoor(text, asked["place"]) for text in asked["backdoors"]]
    several = bool(stamps)
    if several and asked["trigger_image"] is not None:
        raise OptionError("expected --backdoor or --trigger-image, got both")
    if asked["trigger_image"] is not None:
        stamps = [Stamp(path=asked["trigger_image"], place=asked["place"])]
    if (asked["place"] or asked["size"]) and not stamps:
        raise OptionError("expected --trigger-image or --backdoor with --at and --size")
    known = {item.name for item in fields(catalog.find("attacks", method))}
    given = [name for name in ("poison_rate", "target", "source", "alpha") if asked[name] is not None]
    if stamps:  # then the opacity is the picture's
        given = [name for name in given if name != "alpha" or name in known]
    settings = [*asked["settings"], *(f"{name}={asked[name]}" for name in given)]
    attack = method_named("attacks", method, settings)
    assert isinstance(attack, Attack)
    if not stamps:
        return attack
    size, alpha = asked["size"], asked["alpha"] or 1.0
    return with_stamps(attack, stamps, shape, several=several, source=asked["source"], size=size, alpha=alpha)


def _backdoor(text: str, place: tuple[int, int] | None) -> Stamp:
    """Return a picture with its target, and its place where it has one of its own."""
    from detrojan.jobs.attacking import Stamp  # noqa: PLC0415

    path, colon, rest = text.rpartition(":")
    target, at, own = rest.partition("@")
    try:
        where = types.PLACE.parse(own) if at else place
        label = int(target)
    except ValueError as error:
        raise OptionError(f"expected PICTURE:TARGET or PICTURE:TARGET@TOP,LEFT, got {text!r}") from error
    if not colon or not path or label < -1:
        raise OptionError(f"expected PICTURE:TARGET or PICTURE:TARGET@TOP,LEFT, got {text!r}")
    chosen = None if where is None else (where[0], where[1])
    return Stamp(path=Path(path), target=None if label < 0 else label, place=chosen)
