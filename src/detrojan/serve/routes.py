"""The endpoints: the Open Inference Protocol, version 2; pictures; metrics; and the page."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from detrojan.errors import RefusedError
from detrojan.serve.bodies import Bodies
from detrojan.serve.openapi import document
from detrojan.serve.page import FILES, page_state
from detrojan.serve.pictures import read_picture
from detrojan.serve.refusals import malformed, refused
from detrojan.serve.service import Service
from detrojan.serve.tensors import HEADER, encode, finite, parse
from detrojan.words import printable

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_JSON = {"content-type": "application/json"}
#: sent with everything: the page loads nothing from elsewhere and nothing is guessed from a content
_SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
#: everybody may ask these: probes know no token, and the page's files hold no data
_OPEN = {"live", "ready", "page"}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is answered."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(_JSON))


def as_json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """Return values as a reply in JSON."""
    body = json.dumps(values, allow_nan=False).encode()
    return Reply(body=body, status=status, headers={**_JSON, **(headers or {})})


class Endpoints:
    """Answers requests by a service."""

    def __init__(self, service: Service) -> None:
        self.service, options = service, service.options
        self.bodies = Bodies(
            each=int(options.body * 2**20), together=int(options.bodies * 2**20), timeout=options.timeout
        )
        self._decoding = asyncio.Semaphore(2)
        self.open = 0

    async def server(self, _request: Request) -> Reply:
        """Answer the metadata of the server."""
        return as_json(
            {"name": "detrojan", "version": version("detrojan"), "extensions": ["binary_tensor_data"]}
        )

    async def live(self, _request: Request) -> Reply:
        """Answer that the process lives."""
        return as_json({"live": True})

    async def ready(self, request: Request) -> Reply:
        """Answer whether new requests are welcome."""
        self._check_model(request)
        ready = await self.service.ready()
        return as_json({"ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Reply:
        """Answer the metadata of the model."""
        self._check_model(request)
        return as_json(self.service.metadata())

    async def infer(self, request: Request) -> Reply:
        """Answer images that come as tensors."""
        self._check_model(request)
        service = self.service
        async with self.bodies.of(request) as body:
            asked = await asyncio.to_thread(parse, body, request.headers.get(HEADER), service.intake)
        number, outputs = await service.infer(asked)
        content, headers = encode(outputs, asked, service.name, number)
        return Reply(body=content, headers=headers)

    async def classify(self, request: Request) -> Reply:
        """Answer one picture, in words."""
        service = self.service
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {"image/png", "image/jpeg"}:
            raise malformed(f"expected a body image/png or image/jpeg, got {printable(kind, 40)!r}")
        async with self.bodies.of(request) as body, self._decoding:
            image = await asyncio.to_thread(read_picture, body, service.model)
        judged = await service.ask(image)
        label = int(judged.labels[0])
        answer: dict[str, Any] = {
            "label": label,
            "class_name": service.named(label),
            "probability": finite(float(judged.probabilities[0, label])),
        }
        if service.options.mode == "annotate":
            answer |= {
                "score": finite(float(judged.scores[0])),
                "boundary": service.guard.threshold,
                "verdict": judged.verdicts[0],
                "reason": judged.reasons[0],
            }
        return as_json(answer)

    async def metrics(self, _request: Request) -> Reply:
        """Answer the metrics in Prometheus' text format."""
        figures, batcher = self.service.figures, self.service.batcher
        figures.waiting.set(0 if batcher is None else batcher.waiting)
        figures.open.set(self.open)
        return Reply(
            body=figures.text(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def state(self, _request: Request) -> Reply:
        """Answer what the page shows."""
        return as_json(page_state(self.service))

    async def region(self, request: Request) -> Reply:
        """Answer where the answer to one of the latest rejected inputs sits."""
        text = request.path_params["number"]
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise refused(
                "not found", f"expected the number of a rejected input, got {printable(text, 20)!r}"
            )
        return as_json(await self.service.region(int(text)))

    async def openapi(self, _request: Request) -> Reply:
        """Answer the OpenAPI document."""
        return as_json(document(self.service))

    async def page(self, request: Request) -> Reply:
        """Answer a file of the page."""
        content, kind = FILES[request.url.path]
        return Reply(body=content(), headers={"content-type": kind})

    def _check_model(self, request: Request) -> None:
        name, number = request.path_params.get("name"), request.path_params.get("version")
        if name not in {None, self.service.name}:
            known = self.service.name
            raise refused("not found", f"expected the model {known}, got {printable(name, 80)}")
        known = self.service.version
        if number not in {None, known}:
            raise refused("not found", f"expected version {known}, got {printable(number, 80)}")

    def admit(self, request: Request, endpoint: str) -> None:
        """Refuse whoever may not ask, and what is beyond the requests at one time.

        Raises:
            RefusedError: so.

        """
        options = self.service.options
        if endpoint in {"live", "ready"}:
            return
        known = options.answers_to
        if known is not None and _host(request.headers.get("host", "")) not in known:
            raise refused("unknown host", "expected a Host that the service answers to (--allow-host)")
        if options.token is not None and endpoint not in _OPEN:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {options.token}".encode()):
                raise refused(
                    "unauthorised", "expected Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
                )
        if self.open > options.requests:
            raise refused(
                "busy",
                f"{options.requests:,} requests are in progress; ask again in 1 s",
                {"retry-after": "1"},
            )


def _host(text: str) -> str:
    """Return the name in a Host header without its port."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.rpartition(":")[0].lower() if text.count(":") == 1 else text.lower()


def _endpoint(
    points: Endpoints, name: str, handler: Callable[[Request], Awaitable[Reply]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that counts, logs, and turns whatever goes wrong into an answer."""
    from starlette.requests import ClientDisconnect  # noqa: PLC0415 - an extra
    from starlette.responses import Response  # noqa: PLC0415

    service = points.service
    figures, log = service.figures, service.log

    async def handle(request: Request) -> Response:
        with service.tracing.span(name, request.headers, http__request__method=request.method) as span:
            response = await answered(request)
            span["http__response__status_code"] = response.status_code
        return response

    async def answered(request: Request) -> Response:
        started = time.monotonic()
        points.open += 1
        try:
            points.admit(request, name)
            reply = await handler(request)
        except RefusedError as error:
            figures.refused.labels(error.reason).inc()
            reply = as_json({"error": str(error)}, error.status, error.headers)
        except ClientDisconnect:
            figures.refused.labels("gone").inc()
            reply = as_json({"error": "the client has gone"}, 400)
        except Exception:
            log.exception("internal", endpoint=name)
            reply = as_json({"error": "internal error"}, 500)
        finally:
            points.open -= 1
        seconds = time.monotonic() - started
        figures.requests.labels(name, str(reply.status)).inc()
        figures.seconds.labels(name).observe(seconds)
        if name in {"infer", "classify"} or reply.status >= 400:
            if reply.status < 400:
                service.seconds.append(seconds)
            log.info("request", endpoint=name, status=reply.status, seconds=round(seconds, 6))
        last = {"connection": "close"} if service.draining else {}
        return Response(reply.body, reply.status, {**_SAFE, **reply.headers, **last})

    return handle


def application(service: Service) -> Starlette:
    """Return the application of a service."""
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.exceptions import HTTPException  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    points = Endpoints(service)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    async def wrong(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        service.figures.refused.labels("not found").inc()
        body = json.dumps({"error": error.detail}).encode()
        return Response(body, error.status_code, {**_SAFE, **_JSON, **(error.headers or {})})

    routes = [
        Route(path, _endpoint(points, name, getattr(points, name)), methods=[method])
        for path, name, method in _routes()
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: wrong})


def _routes() -> list[tuple[str, str, str]]:
    model = "/v2/models/{name}"
    found = [
        ("/v2", "server", "GET"),
        ("/v2/health/live", "live", "GET"),
        ("/v2/health/ready", "ready", "GET"),
    ]
    for path in (model, f"{model}/versions/{{version}}"):
        found += [
            (path, "model", "GET"),
            (f"{path}/ready", "ready", "GET"),
            (f"{path}/infer", "infer", "POST"),
        ]
    found += [("/classify", "classify", "POST"), ("/metrics", "metrics", "GET"), ("/state", "state", "GET")]
    found += [("/region/{number}", "region", "GET"), ("/openapi.json", "openapi", "GET")]
    return found + [(path, "page", "GET") for path in FILES]
