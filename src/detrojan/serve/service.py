"""A guarded model in service: what is asked of it, what it answers, and what is noted of that."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.errors import EndpointError, InputError, ModelError
from detrojan.guards.base import Calibrated
from detrojan.models.surgery.n_plus_one import BACKDOORED
from detrojan.serve.batching import Batcher
from detrojan.serve.explaining import Regions, region_values
from detrojan.serve.figures import Figures
from detrojan.serve.intake import own_intake
from detrojan.serve.judged import Judged, judge
from detrojan.serve.keeping import Keeper
from detrojan.serve.options import ServeOptions
from detrojan.serve.refusals import refused
from detrojan.serve.tensors import VERSION, Asked, Tensor, outputs_of
from detrojan.serve.tracing import tracing
from detrojan.serve.upstream import Upstream
from detrojan.serve.verdicts import OWN, verdict_types, verdicts
from detrojan.serve.watch import ADVICE, Watch
from detrojan.words import printable

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
        upstream: the server that has the model; None where it is computed here.

    Raises:
        InputError: the folder for rejected inputs cannot be made.

    """

    def __init__(
        self, guard: Calibrated, options: ServeOptions, log: Any, upstream: Upstream | None = None
    ) -> None:
        self.guard, self.options, self.log, self.upstream = guard, options, log, upstream
        #: of the model in the protocol
        self.name = options.name or ("model" if upstream is None else upstream.name.partition("/")[0])
        #: what requests have to fill
        self.intake = (
            own_intake(guard.model.input_shape, options.images) if upstream is None else upstream.intake
        )
        self.model = guard.model
        self.tracing = tracing()
        self.figures = Figures(guard.clean_scores, guard.threshold)
        self.watch = Watch(guard.clean_scores, guard.threshold, alarm_every=options.alarm_every)
        self.keeper = Keeper(options.keep, options.keep_most)
        self.regions = Regions(guard, self.keeper)
        self.points = deque[Point](maxlen=REMEMBERED)
        self.seconds = deque[float](maxlen=1000)
        self.started = time.time()
        self.draining = False
        self._state = self.watch.state
        self.batcher: Batcher | None = None

    def start(self) -> None:
        """Begin to answer; within a running event loop."""
        self.batcher = Batcher(
            lambda images: judge(self.guard, images, None if self.upstream is None else self.upstream.model),
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
        if self.upstream is not None:
            self.upstream.close()
        self.tracing.close()
        self.log.info("stopped", inputs=self.watch.counted.inputs, rejected=self.watch.counted.rejected)

    @property
    def open(self) -> bool:
        """Whether new requests are welcome."""
        return self.batcher is not None and not self.draining

    async def ready(self) -> bool:
        """Return whether new requests are welcome, and can be answered."""
        return self.open and (self.upstream is None or await self.upstream.ready())

    @property
    def version(self) -> str:
        """The version of the model that clients may name."""
        return VERSION if self.upstream is None else self.upstream.version

    def _note_batch(self, images: int, seconds: float) -> None:
        self.figures.batches.observe(images)
        self.figures.computing.observe(seconds)

    async def ask(self, images: torch.Tensor, name: str = "") -> Judged:
        """Return what the guarded model says of images (N, C, H, W) in [0, 1], and note it.

        Args:
            images: what is asked.
            name: what the client calls its request, for the log.

        Raises:
            RefusedError: the queue is full, the upstream does not answer, or an input is rejected and the
                mode is "block".

        """
        assert self.batcher is not None
        with self.tracing.span("judge", images=len(images)) as span:
            async with self._asking():
                judged = await self.batcher.ask(images, self.options.timeout)
            span["rejected"] = int(judged.rejected.sum())
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

    @property
    def explains(self) -> bool:
        """Whether regions are searched: not for strangers, since a search takes some thousand answers."""
        return self.options.token is not None or self.options.answers_to is not None

    async def region(self, number: int) -> dict[str, Any]:
        """Return where the answer to one of the latest rejected inputs sits.

        Raises:
            RefusedError: it is not among them, or strangers may ask.

        """
        if not self.explains:
            raise refused("not found", "regions are searched where the service asks for a token")
        async with self._asking():
            return region_values(await self.regions.of(number), self.guard)

    async def _keep(self, image: torch.Tensor, **facts: Any) -> None:
        try:
            await asyncio.to_thread(self.keeper.add, image, **facts)
        except InputError as error:  # the answer matters more
            self.log.warning("not kept", text=str(error))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Run the body; an upstream that does not answer as it should is the end of the request."""
        try:
            yield
        except ModelError as error:
            if self.upstream is None:
                raise
            self.log.warning("upstream", text=printable(str(error), 500))
            said, status = "something that is no answer of the model", None
            if isinstance(error, EndpointError):
                said, status = error.said.partition(": ")[0] if error.status else error.said, error.status
            if status in {429, 503}:
                raise refused(
                    "busy", "the upstream server is busy; ask again in 1 s", {"retry-after": "1"}
                ) from None
            raise refused("upstream", f"the upstream server does not answer as it should: {said}") from None

    async def infer(self, asked: Asked) -> tuple[str, list[Tensor]]:
        """Return the version of the model, and the outputs that a request wants.

        Raises:
            RefusedError: as `ask` does, or there is no such output.

        """
        name = printable(asked.id, 80)
        if self.upstream is None:
            return VERSION, outputs_of(self._outputs(await self.ask(asked.images, name)), asked)
        own = [name for name, _ in verdict_types(OWN)] if self.options.mode == "annotate" else []
        names = self.upstream.check(asked, own)
        judged = await self.ask(asked.images, name)
        began = time.monotonic()
        with self.tracing.span("upstream"):
            async with self._asking():
                version, found = await self.upstream.answer(asked, names, self.tracing.carried())
        self.figures.upstream.observe(time.monotonic() - began)
        said = {one.name: one for one in (*found, *(verdicts(judged, OWN) if own else ()))}
        return version, [said[name] for name in asked.binary] or list(said.values())

    def _outputs(self, judged: Judged) -> list[Tensor]:
        """Return the outputs of a model that is computed here, as the mode asks for."""
        found = [
            Tensor(name="probabilities", datatype="FP32", values=judged.probabilities.float().numpy()),
            Tensor(name="label", datatype="INT64", values=judged.labels.numpy()),
        ]
        return found + (verdicts(judged, "") if self.options.mode == "annotate" else [])

    def named(self, label: int) -> str:
        """Return the name of a label, "backdoored" for the class beyond the model's."""
        return BACKDOORED if label == self.model.num_classes else self.model.class_name(label)

    def metadata(self) -> dict[str, Any]:
        """Return the protocol's metadata of the model, with its preprocessing and its guard."""
        intake, upstream = self.intake, self.upstream
        annotated = self.options.mode == "annotate"
        if upstream is None:
            wider = self.options.mode == "block" and self.options.blocked == "class"
            outputs = [
                ("probabilities", "FP32", [-1, self.model.num_classes + wider]),
                ("label", "INT64", [-1]),
            ]
            taken = "0 to 1 (FP32, FP16, FP64) or 0 to 255 (UINT8), channels RGB, layout NCHW"
            prepared = f"done by the service: {self.model.preprocessing}"
        else:
            outputs = [(one.name, one.datatype, list(one.shape)) for one in upstream.outputs]
            taken = "as the model takes it"
            prepared = f"done by the client: {upstream.model.preprocessing}"
        if annotated:
            outputs += [(name, kind, [-1]) for name, kind in verdict_types("" if upstream is None else OWN)]
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "detrojan_guard",
            "inputs": [{"name": intake.name, "datatype": intake.usual_datatype, "shape": list(intake.shape)}],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in outputs
            ],
            "parameters": {
                "input_range": taken,
                "preprocessing": prepared,
                "class_names": list(self.model.class_names),
                "guard": self.guard.method.name,
                "mode": self.options.mode,
            },
        }
