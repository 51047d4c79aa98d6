"""Data as a plan wants them, in three parts: to train on, clean ones for a defender, and those that judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from detrojan.benchmark.parts import DataPlan, Sizes
from detrojan.data.dataset import Dataset
from detrojan.data.equalise import equalise
from detrojan.data.reading import data_digest, read_data
from detrojan.errors import DataError, OptionError
from detrojan.run import Run

#: paths given from outside, by the names of data sets (NAME, NAME.test) and of other files
Paths = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Material:
    """One data set in its three parts, no image in two of them.

    Attributes:
        train: what networks are trained on.
        clean: what a defender has.
        test: what judges.

    """

    train: Dataset
    clean: Dataset
    test: Dataset

    def classes(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of classes, and their names where there are as many.

        Raises:
            LabelError: no labels.

        """
        parts = (self.train, self.clean, self.test)
        count = 1 + max(int(part.require_labels("the bench").max()) for part in parts)
        names = self.train.class_names if len(self.train.class_names) >= count else ()
        return len(names) or count, names


def path_of(name: str, plan: DataPlan, paths: Paths) -> tuple[str, str]:
    """Return where a data set's training part and its judging part lie.

    Raises:
        OptionError: nobody says where.

    """
    source = paths.get(name) or plan.source
    if not source:
        raise OptionError(f"expected --data {name}=PATH: the plan does not say where {name} lies")
    return source, paths.get(f"{name}.test") or source


def identity(name: str, plan: DataPlan, paths: Paths, sizes: Sizes, known: dict[str, str]) -> dict[str, Any]:
    """Return all that the material depends on, except for the seed.

    Args:
        name: of the data set in the plan.
        plan: how it is read.
        paths: where it lies.
        sizes: of the profile.
        known: digests by path, kept between calls.

    Raises:
        OptionError, DataError: nobody says where, or there is nothing.

    """
    digests = []
    for path in path_of(name, plan, paths):
        if path not in known:
            known[path] = data_digest(path)
        digests.append(known[path])
    options = plan.model_dump(mode="json", exclude={"about", "source", "train", "test"})
    return {
        "sha256": digests,
        "train": plan.train or sizes.train,
        "test": plan.test or sizes.test,
        **options,
    }


def prepare(name: str, plan: DataPlan, paths: Paths, sizes: Sizes, *, run: Run) -> Material:
    """Read a data set and divide it.

    Raises:
        DetrojanError: it cannot be read, or is too small for what the plan wants.

    """
    run = run.within("data", name)
    train_path, test_path = path_of(name, plan, paths)
    train_count, test_count = plan.train or sizes.train, plan.test or sizes.test
    whole = plan.held_out is not None or plan.least or plan.classes
    wanted = None if whole or train_count is None else train_count + plan.clean
    pool = _chosen(_read(train_path, plan, plan.train_split, wanted, run), plan)
    if plan.held_out is None:
        limit = None if whole else test_count
        test = _chosen(_read(test_path, plan, plan.test_split, limit, run), plan)
    else:
        pool, test = _held_out(pool, plan.held_out, plan.by, run)
    if test_count is not None and test_count < len(test):
        test = test.sample(test_count, run.generator("test"))
    if len(pool) < plan.clean + 20:
        raise DataError(
            f"{name}: expected {plan.clean + 20} images or more to train on and for the defender, "
            f"got {len(pool)}"
        )
    clean, train = pool.split(plan.clean, run.generator("clean"))
    if train_count is not None and train_count < len(train):
        train = train.select(slice(0, train_count))
    if train.shape != test.shape:
        raise DataError(f"{name}: expected judging images of shape {train.shape}, got {test.shape}")
    return Material(train=train, clean=clean, test=test)


def _read(path: str, plan: DataPlan, split: str, limit: int | None, run: Run) -> Dataset:
    data = read_data(
        path,
        split=split or None,
        data_range=plan.data_range,
        resize=plan.resize,
        crop=plan.crop,
        unlabelled=plan.unlabelled and not (plan.least or plan.classes),
        limit=limit,
        generator=run.generator("read", split),
    )
    return replace(data, images=equalise(data.images)) if plan.equalise else data


def _chosen(data: Dataset, plan: DataPlan) -> Dataset:
    """Leave classes out, and number the others again."""
    if not (plan.least or plan.classes):
        return data
    labels = data.require_labels("choosing classes")
    kept = list(plan.classes) or sorted(set(labels.tolist()))
    if plan.least:
        counts = labels.bincount(minlength=max(kept) + 1)
        kept = [label for label in kept if int(counts[label]) >= plan.least]
    if len(kept) < 2:
        raise DataError(f"{data.source}: expected 2 classes or more, got {len(kept)} that the plan wants")
    places = {label: place for place, label in enumerate(kept)}
    names = tuple(data.class_names[label] for label in kept) if len(data.class_names) > max(kept) else ()
    part = data.select(torch.isin(labels, torch.tensor(kept)))
    fresh = torch.tensor([places[label] for label in part.require_labels("choosing classes").tolist()])
    part = replace(part, labels=fresh, class_names=names)
    return part.with_labels(None) if plan.unlabelled else part


def _held_out(data: Dataset, share: float, by: str, run: Run) -> tuple[Dataset, Dataset]:
    """Return what is left, and the held-out part: samples, or whole groups of them."""
    generator = run.generator("held out")
    if not by:
        test, rest = data.split(max(1, round(share * len(data))), generator)
        return rest, test
    if by not in data.extra or data.extra[by].ndim != 1:
        known = ", ".join(data.extra) or "none"
        raise DataError(f"{data.source}: expected an array {by} to divide by, got {known}")
    groups = torch.tensor(sorted(set(data.extra[by].tolist())))
    order = groups[torch.randperm(len(groups), generator=generator)]
    held = torch.isin(data.extra[by], order[: max(1, round(share * len(groups)))])
    if bool(held.all()):
        raise DataError(f"{data.source}: expected 2 groups or more of {by}, got {len(groups)}")
    return data.select(~held), data.select(held)
