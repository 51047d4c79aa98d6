"""A guarded model in service: what is asked of it, what it answers, and what is noted of that."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from detrojan.errors import InputError
from detrojan.guards.base import Calibrated
from detrojan.models.surgery.n_plus_one import BACKDOORED
from detrojan.serve.batching import Batcher
from detrojan.serve.figures import Figures
from detrojan.serve.judged import Judged, judge
from detrojan.serve.keeping import Keeper
from detrojan.serve.options import ServeOptions
from detrojan.serve.refusals import refused
from detrojan.serve.tensors import INPUT, Tensor
from detrojan.serve.watch import ADVICE, Watch

#: inputs on the page
REMEMBERED = 600


@dataclass(frozen=True, kw_only=True)
class Point:
    """One judged input, for the page."""

    at: float
    score: float
    rejected: bool


class Service:
    """A guard and its model, asked in batches; every answer is counted, logged and watched.

    Args:
        guard: calibrated, with its model.
        options: the settings.
        log: a structlog logger.

    Raises:
        InputError: the folder for rejected inputs cannot be made.

    """

    def __init__(self, guard: Calibrated, options: ServeOptions, log: Any) -> None:
        self.guard, self.options, self.log = guard, options, log
        self.model = guard.model
        self.figures = Figures(guard.clean_scores, guard.threshold)
        self.watch = Watch(guard.clean_scores, guard.threshold, alarm_every=options.alarm_every)
        self.keeper = Keeper(options.keep, options.keep_most)
        self.points = deque[Point](maxlen=REMEMBERED)
        self.seconds = deque[float](maxlen=1000)
        self.started = time.time()
        self.draining = False
        self._state = self.watch.state
        self.batcher: Batcher | None = None

    def start(self) -> None:
        """Begin to answer; within a running event loop."""
        self.batcher = Batcher(
            lambda images: judge(self.guard, images),
            most=self.options.batch,
            delay=self.options.delay / 1000,
            waiting=self.options.queue,
            seen=self._note_batch,
        )
        self.batcher.start()

    async def stop(self) -> None:
        """Answer all that wait, then end."""
        self.draining = True
        if self.batcher is not None:
            await self.batcher.drain()
        self.log.info("stopped", inputs=self.watch.counted.inputs, rejected=self.watch.counted.rejected)

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.batcher is not None and not self.draining

    def _note_batch(self, images: int, seconds: float) -> None:
        self.figures.batches.observe(images)
        self.figures.computing.observe(seconds)

    async def ask(self, images: torch.Tensor, name: str = "") -> Judged:
        """Return what the guarded model says of images (N, C, H, W) in [0, 1], and note it.

        Args:
            images: what is asked.
            name: what the client calls its request, for the log.

        Raises:
            RefusedError: the queue is full, or an input is rejected and the mode is "block".

        """
        assert self.batcher is not None
        judged = await self.batcher.ask(images, self.options.timeout)
        await self._note(images, judged, name)
        if self.options.mode != "block" or not bool(judged.rejected.any()):
            return judged
        if self.options.blocked == "class":
            return judged.with_class()
        places = [str(place) for place, bad in enumerate(judged.rejected.tolist()) if bad]
        raise refused(
            "backdoored",
            f"the guard rejects {len(places)} of {len(images)} inputs as backdoored: {', '.join(places)}",
        )

    async def _note(self, images: torch.Tensor, judged: Judged, name: str) -> None:
        now = time.time()
        state = self.watch.add(judged.scores, judged.rejected)
        self.figures.judged(judged, self.watch)
        scores, labels = judged.scores.tolist(), judged.labels.tolist()
        for place, (score, reason) in enumerate(zip(scores, judged.reasons, strict=True)):
            self.points.append(Point(at=now, score=score, rejected=bool(reason)))
            if reason:
                self.log.warning(
                    "rejected", id=name, place=place, score=score, label=labels[place], reason=reason
                )
                await self._keep(images[place], at=now, score=score, label=labels[place], reason=reason)
        if state != self._state:
            level = self.log.info if state == "usual" else self.log.warning
            level("state", state=state, before=self._state, advice=ADVICE[state], **self.watch.evidence)
            self._state = state

    async def _keep(self, image: torch.Tensor, **facts: Any) -> None:
        try:
            await asyncio.to_thread(self.keeper.add, image, **facts)
        except InputError as error:  # the answer matters more
            self.log.warning("not kept", text=str(error))

    def outputs(self, judged: Judged) -> list[Tensor]:
        """Return the outputs of the protocol, as the mode asks for."""
        labels = judged.labels
        found = [
            Tensor(name="probabilities", datatype="FP32", values=judged.probabilities.float().numpy()),
            Tensor(name="label", datatype="INT64", values=labels.numpy()),
        ]
        if self.options.mode == "annotate":
            found += [
                Tensor(name="score", datatype="FP64", values=judged.scores.double().numpy()),
                Tensor(name="verdict", datatype="BYTES", values=np.asarray(judged.verdicts, object)),
                Tensor(name="reason", datatype="BYTES", values=np.asarray(judged.reasons, object)),
            ]
        return found

    def named(self, label: int) -> str:
        """Return the name of a label, "backdoored" for the class beyond the model's."""
        return BACKDOORED if label == self.model.num_classes else self.model.class_name(label)

    def metadata(self) -> dict[str, Any]:
        """Return the protocol's metadata of the model, with its preprocessing and its guard."""
        classes = self.model.num_classes
        wider = self.options.mode == "block" and self.options.blocked == "class"
        outputs = [("probabilities", "FP32", [-1, classes + wider]), ("label", "INT64", [-1])]
        if self.options.mode == "annotate":
            outputs += [("score", "FP64", [-1]), ("verdict", "BYTES", [-1]), ("reason", "BYTES", [-1])]
        return {
            "name": self.options.name,
            "versions": ["1"],
            "platform": "detrojan_guard",
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *self.model.input_shape]}],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in outputs
            ],
            "parameters": {
                "input_range": "0 to 1 (FP32, FP16, FP64) or 0 to 255 (UINT8), channels RGB, layout NCHW",
                "preprocessing": f"done by the service: {self.model.preprocessing}",
                "class_names": list(self.model.class_names),
                "guard": self.guard.method.name,
                "mode": self.options.mode,
            },
        }
