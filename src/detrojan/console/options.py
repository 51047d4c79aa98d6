"""The options that several verbs share, in groups: each group reaches the verb as one object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from detrojan.console import types
from detrojan.console.state import current
from detrojan.jobs.sources import DataSource, ModelSource
from detrojan.report.outputs.base import outputs

Verb = Callable[..., Any]
FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Seed, device, threads, processes, and where the state is kept."""

    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    verbose: bool = False
    checkpoint: Path | None = None
    resume: bool = False
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the result goes.

    Attributes:
        format_: what is written on stdout, "text" or "json".
        files: the file of each further output, by the output's name; None where it is not asked for.

    """

    format_: str
    files: Mapping[str, Path | None] = field(default_factory=dict)

    @property
    def json_file(self) -> Path | None:
        """The file that the JSON goes to."""
        return self.files.get("json")

    @property
    def pictured(self) -> bool:
        """Whether one of the outputs shows pictures of triggers."""
        return any(kind.pictured and self.files.get(name) is not None for name, kind in outputs().items())


def group(kind: type[Any], name: str, options: list[Callable[[Verb], Verb]]) -> Callable[[Verb], Verb]:
    """Return a decorator that adds `options` and hands them to the verb as one `kind` called `name`."""

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def wrapped(*args: Any, **values: Any) -> Any:
            names = [field.name for field in fields(kind) if field.name in values]
            chosen = {name: values.pop(name) for name in names}
            return verb(*args, **{name: kind(**chosen)}, **values)

        decorated: Verb = wrapped
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _debug(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    current().debug = value


def _memory(_context: click.Context, _parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        from detrojan.quarantine import allow_memory  # noqa: PLC0415 - `--help` shall be fast

        allow_memory(value)


def model_options(verb: Verb) -> Verb:
    """Add MODEL and what says how it is built and fed."""
    return group(
        ModelSource,
        "model",
        [
            click.argument("model", type=FILE),
            click.option(
                "--net", metavar="NAME", help="The network the weights belong to (see: detrojan list nets)."
            ),
            click.option(
                "--factory",
                metavar="PACKAGE.MODULE:FUNCTION",
                help="Your own code that makes the network, maybe with arguments in brackets; it is run.",
            ),
            click.option(
                "--classes", type=click.IntRange(min=1), metavar="N", help="How many classes it must have."
            ),
            click.option("--input-shape", type=types.SHAPE, help="Its input, where the file does not say."),
            click.option(
                "--preprocess",
                metavar="NAME|FILE|auto",
                help="How it is fed: imagenet, inception, cifar10, caffe, ...; a JSON file; or auto: what "
                "fits the data best.",
            ),
            click.option(
                "--input-range",
                type=types.InputRange(),
                help="What it was trained on: black and white, e.g. 0-255 or -1:1, or auto: what fits the "
                "data best.  [default: 0-1]",
            ),
            click.option(
                "--mean", type=types.Numbers(), help="Subtracted per channel, in units of the input range."
            ),
            click.option("--std", type=types.Numbers(), help="Divided by per channel, in the same units."),
            click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Order of its input."),
            click.option("--bgr", is_flag=True, help="It takes blue first."),
            click.option(
                "--class-names", type=FILE, metavar="FILE", help="A name per line, or a JSON list of names."
            ),
            click.option(
                "--output",
                metavar="NAME|INDEX",
                help="Which output answers the classes, where the network has several.",
            ),
            click.option(
                "--key", metavar="NAME", help="Which network of the file, where it holds several, e.g. ema."
            ),
            *_server_options(),
            click.option(
                "--allow-unsafe",
                is_flag=True,
                help="Run the code that a pickle holds. Only for files whose author you trust.",
            ),
        ],
    )(verb)


def _server_options() -> list[Callable[[Verb], Verb]]:
    return [
        click.option(
            "--url",
            metavar="URL",
            help="The server that MODEL is the name of a model at (Open Inference Protocol v2: KServe, "
            "Triton, MLServer).",
        ),
        click.option("--input", "input_name", metavar="NAME", help="Which input takes the images at --url."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            default=30.0,
            show_default=True,
            help="How long the server at --url is waited for, each time.",
        ),
    ]


def data_options(
    *, required: bool = True, samples: str = "", none: bool = False, what: str = "Clean images"
) -> Callable[[Verb], Verb]:
    """Return the decorator that adds --data and what says how they are read.

    Args:
        required: whether the verb needs it.
        samples: the default number of images, in words.
        none: whether the verb works without data too.
        what: what the images have to be.

    """
    return group(
        DataSource,
        "data",
        [
            click.option(
                "--data",
                metavar="PATH",
                required=required,
                help=f"{what}: pictures in a folder, zip or tar, a table of them, .npz, HDF5, parquet, wav "
                "files, or the word signs (see: detrojan list formats)"
                + ("; none makes images up." if none else "."),
            ),
            click.option("--split", metavar="NAME", help="train, test or val, where the data have splits."),
            click.option(
                "--samples",
                type=click.IntRange(min=1),
                metavar="N",
                help=f"Use this many images, drawn at random.{samples}",
            ),
            click.option(
                "--data-range",
                type=types.ValueRange(),
                help="What black and white are in the data, e.g. 0-255.",
            ),
            click.option("--resize", type=types.SIZE, help="Bring all images to this size, bilinear."),
            click.option(
                "--channels", type=click.Choice(["grey", "colour"]), help="Make all images grey, or colour."
            ),
            click.option("--crop", is_flag=True, help="Cut each image to its region of interest first."),
            click.option("--unlabelled", is_flag=True, help="Leave the data's labels out."),
            click.option(
                "--strict", is_flag=True, help="Refuse a picture that cannot be read, instead of skipping it."
            ),
        ],
    )


def run_options(verb: Verb) -> Verb:
    """Add seed, device, threads, checkpoint and how much is said."""
    return group(RunOptions, "surroundings", [*_device_options(), *_state_options(), *_saying_options()])(
        verb
    )


def short_run_options(verb: Verb) -> Verb:
    """Add seed, device, threads and how much is said: for verbs whose work is too short to keep its state."""
    return group(RunOptions, "surroundings", [*_device_options(), *_saying_options()])(verb)


def seedless_run_options(verb: Verb) -> Verb:
    """Add device, threads and how much is said: for a verb whose seed is stated elsewhere."""
    return group(RunOptions, "surroundings", [*_device_options()[1:], *_saying_options()])(verb)


def _device_options() -> list[Callable[[Verb], Verb]]:
    return [
        click.option(
            "--seed",
            type=int,
            metavar="N",
            default=0,
            show_default=True,
            help="Equal seeds, equal results.",
        ),
        click.option(
            "--device",
            metavar="NAME",
            default="auto",
            show_default=True,
            help="A torch device, e.g. cuda:0; auto: cuda, else cpu.",
        ),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Computing threads."),
    ]


def _state_options() -> list[Callable[[Verb], Verb]]:
    return [
        click.option(
            "--checkpoint",
            type=FILE,
            metavar="DIR",
            help="Keep the state of long work here.  [default: a folder of this call's own in the cache]",
        ),
        click.option("--resume", is_flag=True, help="Go on where the same command was stopped."),
        click.option(
            "--processes",
            type=click.IntRange(min=1),
            metavar="N",
            default=1,
            show_default=True,
            help="Do parts of the work, such as the starts of neural_cleanse, in so many processes.",
        ),
    ]


def _saying_options() -> list[Callable[[Verb], Verb]]:
    return [
        click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is done."),
        memory_option,
        debug_option,
    ]


def memory_option(verb: Verb) -> Verb:
    """Add --memory."""
    return click.option(
        "--memory",
        type=types.Memory(),
        expose_value=False,
        callback=_memory,
        help="What reading a file may take, beyond 4 times its size, e.g. 800M or 4G.  [default: 1.6G]",
    )(verb)


def debug_option(verb: Verb) -> Verb:
    """Add --debug."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_debug,
        help="Show where an error comes from.",
    )(verb)


def output_options(name: str) -> Callable[[Verb], Verb]:
    """Return the decorator that adds --format, and --NAME FILE for each output of the verb called `name`."""
    listed = outputs(name)

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def wrapped(*args: Any, **values: Any) -> Any:
            files = {name: values.pop(f"{name}_file") for name in listed}
            return verb(*args, output=OutputOptions(format_=values.pop("format_"), files=files), **values)

        decorated: Verb = wrapped
        for kind, said in reversed(listed.items()):
            option = click.option(f"--{kind}", f"{kind}_file", type=FILE, metavar="FILE", help=said.help)
            decorated = option(decorated)
        return format_option("format_")(decorated)

    return decorate


def format_option(name: str = "format_") -> Callable[[Verb], Verb]:
    """Return the decorator that adds --format."""
    return click.option(
        "--format",
        name,
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="What is written on stdout.",
    )


def set_option(what: str) -> Callable[[Verb], Verb]:
    """Return the decorator that adds --set name=value."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help=f"A hyper-parameter of the {what} (see: detrojan list {what}s). May be repeated.",
    )
