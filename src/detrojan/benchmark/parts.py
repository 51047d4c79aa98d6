"""The parts of a plan: data sets, networks, triggers, attacks, defences, and documents' figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detrojan.benchmark.settings import fitting_of, method_of
from detrojan.errors import DetrojanError
from detrojan.models.nets import find_net

#: in every plan: no attack, and no defence
NONE = "none"
_ROOMS = Literal["repairs", "scans", "guards", "trainers", "filters"]


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Turn our errors into those that pydantic collects."""
    try:
        yield
    except DetrojanError as error:
        raise ValueError(str(error)) from error


class Part(BaseModel):
    """What all parts share: nothing but what is known may stand in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(Part):
    """A profile: how much of everything is used.

    Attributes:
        train: training images; None for all.
        test: images that judge; None for all.
        epochs: of training each network, where the network does not say.

    """

    train: int | None = Field(default=None, ge=20)
    test: int | None = Field(default=None, ge=20)
    epochs: int | None = Field(default=None, ge=1)


class DataPlan(Part):
    """A data set: where it comes from and how it is read and divided.

    Attributes:
        about: for the tables, e.g. what it stands in for.
        source: the word signs; empty where the path comes from outside.
        train_split: the split to train on; empty for data without splits.
        test_split: the split that judges; not used with `held_out`.
        held_out: share that is held out for judging, where there is no split for it.
        by: samples with one value of this array stay on one side, e.g. track.
        least: classes with fewer samples are left out, and the others numbered again.
        classes: only these labels are used, numbered again in this order.
        resize: (H, W) in pixels.
        crop: cut each image to its region of interest.
        data_range: what black and white are in the file.
        equalise: equalise each image's histogram.
        unlabelled: the labels mean nothing to the network.
        train: training images; None for all.
        test: images that judge; None for all.
        clean: clean images that a defender has; none of them is trained on or judges.

    """

    about: str = ""
    source: str = ""
    train_split: str = "train"
    test_split: str = "test"
    held_out: float | None = Field(None, gt=0, lt=1)
    by: str = ""
    least: int = Field(0, ge=0)
    classes: tuple[int, ...] = ()
    resize: tuple[int, int] | None = None
    crop: bool = False
    data_range: tuple[float, float] | None = None
    equalise: bool = False
    unlabelled: bool = False
    train: int | None = Field(default=None, ge=20)
    test: int | None = Field(default=None, ge=20)
    clean: int = Field(500, ge=20)


class NetworkPlan(Part):
    """A network and its training.

    Attributes:
        about: for the tables.
        net: its name in the list of networks.
        fitting: how it is trained; what is not said has the training's own defaults.
        shift: random shifts of the images of up to so many pixels.
        flip: mirror half of the images.

    """

    about: str = ""
    net: str
    fitting: dict[str, Any] = {}
    shift: int = Field(2, ge=0, le=16)
    flip: bool = False

    @model_validator(mode="after")
    def _known(self) -> Self:
        with _as_value_error():
            find_net(self.net)
            fitting_of(self.fitting)
        return self


class TriggerPlan(Part):
    """A trigger: a picture, a file, pixels as they stand here, a corner patch, or arrays of a file.

    Attributes:
        picture: a picture's file, beside the plan.
        file: a saved trigger, beside the plan.
        pixels: rows of values in [0, 1].
        corner: e.g. "bottom right".
        npz: the name of an .npz file given from outside.
        rgba: its array (h, w, 4).
        mask: its array (h, w), or (n, h, w) with `index`.
        rgb: its array (3,), the colour of the mask.
        index: which mask.
        at: row and column of the upper left corner; negative ones count from the far border.
        size: of a picture, (H, W); side of a corner patch is the first.
        margin: pixels that a corner patch leaves free.
        fill: what a corner patch is made of.
        alpha: opacity of a picture, pixels or a corner patch.

    """

    picture: str = ""
    file: str = ""
    pixels: tuple[tuple[float, ...], ...] = ()
    corner: str = ""
    npz: str = ""
    rgba: str = ""
    mask: str = ""
    rgb: str = ""
    index: int = Field(0, ge=0)
    at: tuple[int, int] = (0, 0)
    size: tuple[int, int] | None = None
    margin: int = Field(1, ge=0)
    fill: Literal["white", "checker"] = "checker"
    alpha: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("picture", "file", "pixels", "corner", "npz")
        given = [name for name in kinds if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(kinds)}, got {', '.join(given) or 'none'}")
        if self.npz and bool(self.rgba) == bool(self.mask and self.rgb):
            raise ValueError("expected rgba, or mask and rgb, with npz")
        if self.pixels and len({len(row) for row in self.pixels}) != 1:
            raise ValueError("expected rows of pixels of one length")
        return self


class BackdoorPlan(Part):
    """One trigger, what it asks for, and where it works."""

    trigger: TriggerPlan
    target: int = Field(0, ge=-1)
    source: int | None = Field(default=None, ge=0)


class AttackPlan(Part):
    """An attack with its hyper-parameters, or a network that somebody else has attacked.

    Attributes:
        about: for the tables.
        method: its name in the room of the attacks.
        set: its hyper-parameters.
        trigger: planted instead of its own.
        backdoors: several triggers, planted instead of its own; for a delivered network: the true ones.
        surrogate: "twin": where the attacker needs a clean network, it is the clean twin.
        fitting: how the attacker trains, where it differs from the network's training.
        model: the name of a delivered network's file, given from outside.

    """

    about: str = ""
    method: str = ""
    set: dict[str, Any] = {}
    trigger: TriggerPlan | None = None
    backdoors: tuple[BackdoorPlan, ...] = ()
    surrogate: Literal["", "twin"] = ""
    fitting: dict[str, Any] = {}
    model: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if bool(self.method) == bool(self.model):
            raise ValueError("expected a method, or a delivered model")
        if self.model:
            if not self.backdoors or self.set or self.trigger or self.surrogate or self.fitting:
                raise ValueError("expected backdoors and nothing else with a delivered model")
            return self
        given = ("trigger", "backdoors", "surrogate")
        with _as_value_error():
            method_of("attacks", self.method, self.set, [name for name in given if getattr(self, name)])
            fitting_of(self.fitting)
        return self


class DefencePlan(Part):
    """A method of another room, and what it is given.

    Attributes:
        about: for the tables.
        room: where it lives.
        method: its name there.
        set: its hyper-parameters.
        findings: what a repair knows: "none", "original" (the attacker's trigger), or a scan's name
            among the defences.
        inputs: most clean and most stamped inputs on which a guard is judged.

    """

    about: str = ""
    room: _ROOMS
    method: str
    set: dict[str, Any] = {}
    findings: str = NONE
    inputs: int = Field(2000, ge=10)

    @model_validator(mode="after")
    def _known(self) -> Self:
        with _as_value_error():
            method_of(self.room, self.method, self.set)
        return self


class Grid(Part):
    """Which of the plan's parts meet; an empty list stands for all."""

    data: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    defences: tuple[str, ...] = ()


class Reference(Part):
    """What a document says.

    Attributes:
        source: which document.
        unit: of its figures.
        cells: by "data/attack/defence" the figures, by their measure's name (ca, asr, frr, far).

    """

    source: str
    unit: Literal["percent", "share"] = "percent"
    cells: dict[str, dict[str, float]]


class Cell(Part):
    """One combination."""

    data: str
    network: str
    attack: str
    defence: str
    seed: int
