"""The server whose model is guarded: it answers, the service passes its answers on.

It gets exactly the numbers that the guard has judged, in a request that the service writes itself. So a
client cannot say one thing to the guard and another to the model. What the server answers is bounded in
length and in time, and redirects are not followed. No other of its models can be reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from detrojan.errors import EndpointError, ModelError, OptionError
from detrojan.guards.base import Calibrated
from detrojan.models.answers import probes
from detrojan.models.classifier import Classifier
from detrojan.models.endpoint import open_endpoint
from detrojan.models.transport import Patience, Server
from detrojan.models.v2 import chosen, feed, model_path, outputs_of, request, tensors_of
from detrojan.serve.intake import Intake, upstream_intake
from detrojan.serve.options import ServeOptions
from detrojan.serve.refusals import malformed
from detrojan.serve.tensors import VERSION, Asked, Tensor
from detrojan.serve.verdicts import OWN, verdict_types
from detrojan.words import printable

#: a request is sent twice at most: a server that was started again has closed the older connections
TRIES, PAUSE = 2, 0.05
#: requests that the server is sent at one time
AT_ONCE = 64
#: seconds for which its readiness is not asked again, and that it may take to say it
_FRESH, _PROBE = 0.5, 2.0
#: statuses of a server that knows no such path
_NO_SUCH_PATH = frozenset({404, 405, 501})
#: the most that probabilities of the same network may differ by in two places
_SAME = 0.1
#: names of the guard's own outputs
_TAKEN = frozenset(name for name, _ in verdict_types(OWN))


def patience_of(options: ServeOptions) -> Patience:
    """Return how long the server is waited for while the service runs."""
    return Patience(timeout=options.upstream_timeout, tries=TRIES, pause=PAUSE)


class Upstream:
    """A model of another server.

    Args:
        guard: calibrated on this model, through the server or on a copy of it.
        options: the settings, which name the server and the model.

    Raises:
        EndpointError: the server does not answer.
        ModelError: it answers otherwise than the model that the guard was calibrated for.
        OptionError: the settings do not fit an upstream.

    """

    def __init__(self, guard: Calibrated, options: ServeOptions) -> None:
        assert options.upstream is not None
        if options.blocked == "class" and options.mode == "block":
            raise OptionError("expected --blocked error with --upstream, whose answers are passed on")
        own, patience = guard.model, patience_of(options)
        self.name = name_of(guard, options)
        self.path = model_path(self.name)
        self.server = Server(options.upstream, patience, token=options.upstream_token, at_once=AT_ONCE)
        probing = Patience(timeout=min(_PROBE, options.upstream_timeout), tries=1)
        self._prober = Server(options.upstream, probing, token=options.upstream_token, at_once=2)
        where = f"{self.server.url}{self.path}"
        stated = self.server.get(self.path)
        self.outputs = tensors_of(stated, "outputs", where)
        _check_beside([one.name for one in self.outputs], where)
        self.feed = feed(
            chosen(tensors_of(stated, "inputs", where), None, "input", where),
            where,
            shape=own.input_shape,
            layout=own.preprocessing.layout if own.answers_only else None,
        )
        versions = stated.get("versions")
        known = [str(one) for one in versions] if isinstance(versions, list) else []
        pinned = self.name.partition("/")[2]
        #: the version that clients may name
        self.version = pinned or (known[0] if len(known) == 1 else VERSION)
        self.binary = self.server.takes_bytes()
        #: asked by the guard, or beside it
        self.model = own if own.answers_only else self._beside(guard, options, patience)
        self.intake: Intake = upstream_intake(self.feed, self.model.preprocessing, options.images)
        self._pool = ThreadPoolExecutor(AT_ONCE, "upstream")
        self._readiness, self._asked_at, self._probing = False, -_FRESH, asyncio.Lock()

    def _beside(self, guard: Calibrated, options: ServeOptions, patience: Patience) -> Classifier:
        """Return the server's model for a guard that computes with a copy of it; refuse another model."""
        assert options.upstream is not None
        own = guard.model
        images = probes(own.input_shape)
        here, got = own.probabilities(images), "others"
        outputs: list[str | None] = [one.name for one in self.outputs]
        for output in outputs or [None]:
            try:
                model = open_endpoint(
                    options.upstream, self.name, input_shape=own.input_shape, output=output,
                    preprocessing=own.preprocessing, layout=self.feed.layout, class_names=own.class_names,
                    patience=patience, token=options.upstream_token,
                )  # fmt: skip
                there = model.probabilities(images)
            except EndpointError:
                raise
            except ModelError as error:  # this output answers no classes
                got = str(error)
                continue
            if there.shape == here.shape and float((there - here).abs().max()) <= _SAME:
                return model
        raise ModelError(
            f"{self.server.url}{self.path}: expected the answers of the guard's own copy of the model, got "
            f"{got}: it is another model, or fed in another way; calibrate a guard with --url"
        )

    def check(self, asked: Asked, known: Sequence[str]) -> list[str]:
        """Return the outputs of the server that are wanted; none for all.

        Args:
            asked: the request.
            known: the guard's own outputs.

        Raises:
            RefusedError: there is no such output.

        """
        theirs = [one.name for one in self.outputs]
        for name in asked.binary:
            if theirs and name not in {*theirs, *known}:
                listed = ", ".join([*theirs, *known])
                raise malformed(f"expected outputs out of {listed}, got {printable(name, 40)!r}")
        return [name for name in asked.binary if name not in known]

    async def answer(
        self, asked: Asked, names: list[str], carried: dict[str, str]
    ) -> tuple[str, list[Tensor]]:
        """Return the version of the model, and its outputs.

        Args:
            asked: the request.
            names: the outputs that are wanted; none for all.
            carried: more headers, which hand a trace on.

        Raises:
            ModelError: the server does not answer, or not as the protocol says.

        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._answer, asked, names, carried)

    def _answer(self, asked: Asked, names: list[str], carried: dict[str, str]) -> tuple[str, list[Tensor]]:
        where = f"{self.server.url}{self.path}"
        body, headers = request(self.feed, names, asked.values, binary=self.binary)
        text, said = self.server.sent("POST", f"{self.path}/infer", body, headers | carried)
        stated, found = outputs_of(text, said, where)
        if missing := [name for name in names if name not in found]:
            raise ModelError(f"{where}: expected the output {missing[0]!r}, got {', '.join(found) or 'none'}")
        _check_beside(found, where)
        version = stated.get("model_version")
        tensors = [
            Tensor(name=name, datatype=datatype, values=values)
            for name, (datatype, values) in found.items()
            if not names or name in names
        ]
        return printable(version, 80) if isinstance(version, str) and version else self.version, tensors

    async def ready(self) -> bool:
        """Return whether the server says that its model is ready; it is asked twice a second at most."""
        async with self._probing:
            if time.monotonic() - self._asked_at >= _FRESH:
                self._readiness = await asyncio.to_thread(self._ready)
                self._asked_at = time.monotonic()
        return self._readiness

    def _ready(self) -> bool:
        for path in (f"{self.path}/ready", self.path):
            try:
                self._prober.sent("GET", path)
            except EndpointError as error:
                if error.status not in _NO_SUCH_PATH:
                    return False
            else:
                return True
        return False

    def close(self) -> None:
        """Close the connections, once what is in progress has been answered."""
        self._pool.shutdown(wait=False)
        for server in (self.server, self._prober):
            server.close()


def name_of(guard: Calibrated, options: ServeOptions) -> str:
    """Return the name of the model at the server.

    Raises:
        OptionError: none is stated, or another than that of the calibration.

    """
    stated = options.upstream_model
    if not guard.model.answers_only:
        if stated is None:
            raise OptionError("expected --upstream-model NAME, since the guard was not calibrated with --url")
        return stated
    if stated not in {None, guard.model.origin.net}:
        raise OptionError(
            f"expected the model {guard.model.origin.net} that the guard was calibrated on, got {stated}"
        )
    return guard.model.origin.net


def _check_beside(names: Iterable[str], where: str) -> None:
    """Refuse a server that would speak for the guard."""
    if taken := _TAKEN.intersection(names):
        raise ModelError(f"{where}: expected outputs beside the guard's own, got {', '.join(sorted(taken))}")
