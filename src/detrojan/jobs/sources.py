"""Where a job's model, data and workers come from: plain values, as options, a request or a plan say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Which model, and how it is fed.

    Attributes:
        model: its file.
        net: the network that the weights belong to; None where the file says it, or it is guessed.
        factory: the user's own code that makes the network, PACKAGE.MODULE:FUNCTION; it is imported and run.
        classes: how many classes it must have.
        input_shape: (C, H, W), where the file does not say.
        preprocess: how it is fed: the name of a preset, a JSON file, or "auto" for what fits the data best;
            the fields below go before it.
        input_range: black and white as the network takes them; "auto" for what fits the data best.
        mean: subtracted per channel, in units of the input range.
        std: divided by per channel, in the same units.
        layout: "NCHW" or "NHWC".
        bgr: whether it takes blue first.
        class_names: a file with a name per line, or a JSON list of names.
        output: which of several outputs of the network is judged, by its name or its place.
        allow_unsafe: whether the code that a pickle holds may run.
        key: which of several networks in its file is judged: the keys or the prefix that lead to it.
        url: the server that answers as the model, whose name there is `model`; None for a file.
        input_name: the input that takes the images, where a server has several.
        timeout: seconds that a server is waited for, each time.

    """

    model: Path
    net: str | None = None
    factory: str | None = None
    classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    preprocess: str | None = None
    input_range: tuple[float, float] | Literal["auto"] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: str | None = None
    bgr: bool = False
    class_names: Path | None = None
    output: str | None = None
    allow_unsafe: bool = False
    key: str | None = None
    url: str | None = None
    input_name: str | None = None
    timeout: float = 30.0


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Which data, and how they are read.

    Attributes:
        data: a file, a folder, or the word "signs"; "none" where a job can do without.
        split: "train", "test" or "val", where the data have splits.
        samples: how many images are drawn; None for all, or as many as the job takes.
        data_range: black and white in the data.
        resize: (H, W) that all images are brought to.
        channels: "grey" or "colour", which all images are made; None for as they are.
        crop: whether each image is cut to its region of interest first.
        unlabelled: whether the labels are left out.
        strict: whether a picture that cannot be read is refused, instead of skipped.

    """

    data: str | None
    split: str | None = None
    samples: int | None = None
    data_range: tuple[float, float] | None = None
    resize: tuple[int, int] | None = None
    channels: Literal["grey", "colour"] | None = None
    crop: bool = False
    unlabelled: bool = False
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineSource:
    """Who does the parts of a job.

    Attributes:
        engine: its name.
        workers: parts at the same time; None for what is usual.
        address: of a cluster; None where there is none.

    """

    engine: str
    workers: int | None = None
    address: str | None = None
