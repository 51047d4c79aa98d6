"""The settings of a service, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from detrojan.errors import InputError, OptionError

Mode = Literal["annotate", "block", "shadow"]
Blocked = Literal["error", "class"]
#: names of this machine, which a service that listens to it alone answers to
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: the variable with the token, which is no option: other users of the machine see a call's words
TOKEN = "DETROJAN_SERVE_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a guard is put into service.

    Attributes:
        guard: the guard's folder.
        name: of the model in the protocol; None for "model", or for its name at the upstream.
        mode: "annotate" adds score, verdict and reason; "block" does not answer rejected inputs; "shadow"
            answers as the model does, and logs.
        blocked: with "block", whether a rejected input gets an error or one class more.
        host: the address to listen at.
        port: 0 for a free one.
        batch: images in a batch, 1 or more.
        delay: milliseconds that the first image of a batch waits for others, 0 or more.
        queue: images that may wait, 1 or more.
        images: images in one request, 1 or more.
        body: megabytes of one body, above 0.
        bodies: megabytes of all bodies that are held at one time.
        requests: requests at one time.
        timeout: seconds within which a body has to come, and an answer has to be there, above 0.
        drain: seconds that a stopped service takes for what it has accepted.
        grace: seconds that a stopped service still accepts requests, while it says that it is not ready.
        hosts: names that the service answers to; "*" for all; empty for those of this machine, where it
            listens to it alone.
        token: what a client has to know; None where everybody may ask.
        keep: a folder that rejected inputs are kept in, or None.
        keep_most: files in it.
        alarm_every: inputs per false alarm on average, above 100.
        upstream: the server that has the model, as a URL; None where the service computes it.
        upstream_model: the model's name there; None for that of the guard's calibration.
        upstream_timeout: seconds that the server may take for one answer, above 0.
        upstream_wait: seconds that the start waits for the server, 0 or more.
        upstream_token: that the server asks for, or None.

    """

    guard: Path
    name: str | None = None
    mode: Mode = "annotate"
    blocked: Blocked = "error"
    host: str = "127.0.0.1"
    port: int = 8000
    batch: int = 32
    delay: float = 5.0
    queue: int = 256
    images: int = 64
    body: float = 16.0
    bodies: float = 256.0
    requests: int = 256
    timeout: float = 30.0
    drain: float = 30.0
    grace: float = 0.5
    hosts: tuple[str, ...] = ()
    token: str | None = None
    keep: Path | None = None
    keep_most: int = 1000
    alarm_every: float = 1e6
    upstream: str | None = None
    upstream_model: str | None = None
    upstream_timeout: float = 10.0
    upstream_wait: float = 60.0
    upstream_token: str | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name, choices in (("mode", Mode), ("blocked", Blocked)):
            known = get_args(choices)
            self._check(name, getattr(self, name) in known, f"out of {', '.join(known)}")
        for name in ("batch", "queue", "images", "requests", "keep_most"):
            self._check(name, getattr(self, name) >= 1, "of 1 or more")
        for name in ("body", "bodies", "timeout", "upstream_timeout"):
            self._check(name, 0 < getattr(self, name) < math.inf, "above 0")
        for name in ("delay", "drain", "grace", "upstream_wait"):
            self._check(name, 0 <= getattr(self, name) < math.inf, "of 0 or more")
        self._check("alarm_every", 100 < self.alarm_every < math.inf, "above 100")
        spelled = self.name is None or re.fullmatch(r"[A-Za-z0-9._-]{1,100}", self.name)
        self._check("name", bool(spelled), "of letters, digits, dots and dashes")
        if self.token is not None and not re.fullmatch(r"[!-~]{8,500}", self.token):
            raise OptionError("expected a token of 8 to 500 printable ASCII characters without spaces")

    def _check(self, name: str, fine: bool, expected: str) -> None:
        if not fine:
            raise OptionError(f"expected {name} {expected}, got {getattr(self, name)!r:.120}")

    @property
    def answers_to(self) -> frozenset[str] | None:
        """The host names that the service answers to; None for all."""
        if "*" in self.hosts or (not self.hosts and self.host not in LOOPBACK):
            return None
        return frozenset(name.lower() for name in (*self.hosts, *LOOPBACK))


def read_token(path: Path) -> str:
    """Return the token in a file, without the white space around it.

    Raises:
        InputError: it cannot be read.

    """
    try:
        with path.open("rb") as stream:
            return stream.read(10_000).decode("ascii").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"expected a file with a token, got {path}: {error}") from error
