"""Sends HTTP requests to a server that has a model: within bounds of time, of tries, and of length."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detrojan.errors import EndpointError, ModelError, OptionError
from detrojan.extras import require
from detrojan.models.v2 import BINARY, read_json

log = logging.getLogger(__name__)

#: the variable with the token that servers are sent
TOKEN = "DETROJAN_UPSTREAM_TOKEN"  # noqa: S105 - the name of a variable
#: no answer is longer, in bytes
MOST_ANSWER = 2**26
#: what a server says while it is busy or starting
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_LARGE = 413


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds for one answer; above 0.
        tries: how often a request is sent; 1 or more.
        pause: seconds before the second try, doubled before each further one.

    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 0.25


PATIENCE = Patience()


class Server:
    """Sends requests, again where a server is busy or away. Several threads may use one.

    Redirects are not followed, and compressed answers not asked for.

    Args:
        url: such as "http://localhost:8000".
        patience: how long it is waited for.
        token: sent as `Authorization: Bearer TOKEN`; None for what `DETROJAN_UPSTREAM_TOKEN` says.
        at_once: connections at one time, 1 or more.

    Raises:
        ModelError: it is no URL.
        OptionError: the token cannot be sent.
        MissingExtraError: httpx2 is not installed.

    """

    def __init__(self, url: str, patience: Patience, *, token: str | None = None, at_once: int = 100) -> None:
        self.http = require("httpx2", extra="endpoint", what="models behind a URL")
        if not url.startswith(("http://", "https://")):
            raise ModelError(f"expected a URL http:// or https://, got {url!r:.200}")
        self.url, self.patience = url.rstrip("/").removesuffix("/v2"), patience
        token = token or os.environ.get(TOKEN) or None
        if token is not None and not re.fullmatch(r"[!-~]{1,4000}", token):
            raise OptionError(f"expected a token of printable ASCII characters without spaces in {TOKEN}")
        self.client = self.http.Client(
            timeout=patience.timeout,
            follow_redirects=False,
            limits=self.http.Limits(max_connections=at_once, max_keepalive_connections=at_once),
            headers={
                "Accept-Encoding": "identity",
                **({} if token is None else {"Authorization": f"Bearer {token}"}),
            },
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON that lies at a path."""
        body, _ = self.sent("GET", path)
        return read_json(body, f"{self.url}{path}")

    def optional(self, path: str) -> dict[str, Any]:
        """Return the JSON that lies at a path, or nothing where a server has none there."""
        try:
            return self.get(path)
        except ModelError as error:
            log.info("%s", error)
            return {}

    def takes_bytes(self) -> bool:
        """Return whether tensors may travel as bytes."""
        extensions = self.optional("/v2").get("extensions")
        return isinstance(extensions, list) and BINARY in extensions

    def sent(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers of an answer.

        Raises:
            EndpointError: none came in time, or it is an error.

        """
        where, said, status = f"{self.url}{path}", "", None
        for count in range(self.patience.tries):
            if count:
                time.sleep(self.patience.pause * 2 ** (count - 1))
            try:
                status, text, found = self._once(method, where, body, headers)
            except self.http.TimeoutException:
                said, status = f"no answer within {self.patience.timeout:g} s", None
            except (self.http.HTTPError, self.http.InvalidURL) as error:
                said, status = f"no answer: {error or type(error).__name__}", None
            else:
                if status == 200:
                    return text, found
                reason = text[:300].decode("utf-8", "replace").strip()
                said = f"expected the status 200, got {status}: {reason}"
                if status == _TOO_LARGE:
                    raise TooLargeError(f"{where}: {said}", said, status)
                if status not in _BUSY:
                    raise EndpointError(f"{where}: {said}", said, status)
            log.info("%s: %s (try %d of %d)", where, said, count + 1, self.patience.tries)
        raise EndpointError(f"{where}: {said} (tried {self.patience.tries} times)", said, status)

    def _once(
        self, method: str, where: str, body: bytes, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send once, and read an answer of a bounded length, for a bounded time."""
        until = time.monotonic() + self.patience.timeout
        with self.client.stream(method, where, content=body or None, headers=dict(headers or {})) as reply:
            parts, size = [], 0
            for part in reply.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MOST_ANSWER:
                    said = f"expected an answer of at most {MOST_ANSWER:,} bytes, got more"
                    raise EndpointError(f"{where}: {said}", said)
                if time.monotonic() > until:
                    raise self.http.ReadTimeout("too slow")
            return reply.status_code, b"".join(parts), reply.headers


class TooLargeError(EndpointError):
    """A server takes fewer images at once."""
