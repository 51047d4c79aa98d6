"""Reads the bodies of requests within bounds: of each, of all together, and of the time that one may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from detrojan.errors import RefusedError
from detrojan.serve.refusals import malformed, refused

if TYPE_CHECKING:
    from starlette.requests import Request


class Bodies:
    """The memory that bodies may take.

    Args:
        each: bytes of one body.
        together: bytes of all bodies that are held.
        timeout: seconds within which a body has to come.

    """

    def __init__(self, *, each: int, together: int, timeout: float) -> None:
        self.each, self.together, self.timeout = each, max(each, together), timeout
        self.held = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """Hand the body of a request to the body of a `with`.

        Raises:
            RefusedError: it is too large, comes too slowly, or the memory for bodies is used up.

        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise refused("encoding", "expected a body without Content-Encoding")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and (len(stated) > 15 or int(stated) > self.each):
            raise self._too_large()
        parts, taken = list[bytes](), 0
        try:
            async with self._in_time():
                async for part in request.stream():
                    parts.append(part)
                    taken += len(part)
                    self.held += len(part)
                    self._check(taken)
            if not taken:
                raise malformed("expected a body, got none")
            yield b"".join(parts)
        finally:
            self.held -= taken

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except TimeoutError:
            raise refused("slow", f"expected the whole body within {self.timeout:g} s") from None

    def _check(self, taken: int) -> None:
        if taken > self.each:
            raise self._too_large()
        if self.held > self.together:
            raise refused("busy", "the memory for bodies is used up; ask again in 1 s", {"retry-after": "1"})

    def _too_large(self) -> RefusedError:
        return refused("too large", f"expected a body of at most {self.each:,} bytes")
