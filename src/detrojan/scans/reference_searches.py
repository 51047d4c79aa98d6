"""Searches beside a reference network: triggers of a network, and those that the reference does not know."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

import torch

from detrojan.errors import ModelError
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.judging.sizes import smallest
from detrojan.learning.anew import BATCH, relearnt
from detrojan.learning.fitting import Epoch
from detrojan.metrics.accuracy import agreement
from detrojan.models.beside import beside
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.search.engine import search
from detrojan.search.jobs import Job
from detrojan.search.plan import Found, Plan, Searched
from detrojan.search.windows import windows
from detrojan.triggers.aim import Aim

#: by form and label, the smallest change
Smallest = dict[str, dict[int, Found]]


class ReferenceSettings(Protocol):
    """What the searches ask of the method."""

    @property
    def updates(self) -> int:
        """Updates of the reference network."""

    @property
    def budget(self) -> float:
        """Seconds after which no further search begins, 0 for no limit."""

    def plan(self, kind: Literal["patch", "window", "additive"]) -> Plan:
        """Return how triggers of a kind are searched."""


class _TimeUpError(Exception):
    """The budget ended while the reference was trained."""


@dataclass
class ReferenceSearches:
    """Searches under way, and what they have found: by form and label, the smallest triggers.

    Attributes:
        method: how to search.
        model: the network.
        ready: images, and the labels to test.
        run: device, seed, progress, checkpoint.
        agreement: share of unseen images that the reference answers as the network does; None before.
        own: what works on the network, whatever a reference says.
        alone: what works on the network, and not on the reference.
        passes: forward+backward passes of one sample so far.
        untrainable: why no reference could be trained, or empty.
        cut: the stages that time cut short.
        interrupted: whether somebody stopped it.
        seconds: wall time by stage.

    """

    method: ReferenceSettings
    model: Classifier
    ready: Prepared
    run: Run
    agreement: float | None = None
    own: Smallest = field(default_factory=dict)
    alone: Smallest = field(default_factory=dict)
    passes: int = 0
    untrainable: str = ""
    cut: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def stop(self) -> bool:
        """Whether the time is up."""
        return 0 < self.method.budget < time.monotonic() - self.ready.begun

    def work(self) -> None:
        """Search triggers, train the reference, then search those that it does not know."""
        images, truth = self.ready.search
        self.own = self._searched("triggers", self.model, images, truth)
        reference = self._reference()
        if reference is None:
            return
        unseen = slice(self.taught, None)
        self.agreement = agreement(reference, self.ready.answers[unseen], self.ready.images[unseen])
        answers = self.model.answers(images)
        alike = reference.answers(images) == answers
        if self.learned:
            self.alone = self._searched(
                "triggers that the reference does not know",
                beside(self.model, reference),
                images[alike],
                answers[alike],
            )

    @property
    def taught(self) -> int:
        """How many images the reference is taught with; the rest shows what it has learned."""
        return len(self.ready.images) * 4 // 5

    @property
    def learned(self) -> bool:
        """Whether the reference answers images that it has not seen much as the network does."""
        return self.agreement is not None and self.agreement >= POLICY.least_agreement

    @property
    def complete(self) -> bool:
        """Whether nothing was cut short."""
        return not self.cut and not self.interrupted

    def _reference(self) -> Classifier | None:
        """Return the reference network; None where the time is up."""
        if not self._time_for("the reference network"):
            return None

        def look(_epoch: Epoch) -> None:
            if self.stop():
                raise _TimeUpError

        begun, images = time.monotonic(), self.ready.images[: self.taught]
        try:
            return relearnt(
                self.model,
                images,
                updates=self.method.updates,
                run=self.run.within("reference"),
                after_epoch=look,
            )
        except _TimeUpError:
            self.cut.append("the reference network")
            return None
        except ModelError as error:
            self.untrainable = str(error)
            return None
        finally:
            self.passes += self.method.updates * BATCH
            self.seconds["reference network"] = time.monotonic() - begun

    def _searched(self, title: str, model: Classifier, images: torch.Tensor, truth: torch.Tensor) -> Smallest:
        """Return the smallest change of each form for each label, from a random start and the best window."""
        if not self._time_for(title):
            return {}
        begun, run, stop = time.monotonic(), self.run, self.stop
        jobs = [Job(Aim(target=label)) for label in self.ready.tested]
        ask = partial(search, model, images, truth, run=run, stop=stop, title=title)
        additive = ask(jobs, self.method.plan("additive"))
        everywhere = ask(jobs, self.method.plan("patch"))
        seen = windows(model, images, truth, jobs, run=run, title=title, stop=stop)
        starts = seen.starts(1)
        local = ask(list(starts), self.method.plan("window"), starts=starts) if starts else Searched()
        self.passes += additive.passes + everywhere.passes + seen.passes + local.passes
        self.seconds[title] = time.monotonic() - begun
        if not (additive.complete and everywhere.complete and local.complete and len(seen.jobs) == len(jobs)):
            self.cut.append(title)
        # the jobs from windows have start 1
        return {
            "patch": smallest(everywhere.found | local.found),
            "additive": smallest(additive.found),
        }

    def _time_for(self, title: str) -> bool:
        if self.cut or self.stop():
            self.cut.append(title)
            return False
        return True
