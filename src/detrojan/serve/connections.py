"""Connections that are closed where the head of a request does not come in time, or its body never ends."""

from __future__ import annotations

import asyncio
from typing import Any


def impatient(seconds: float) -> Any:
    """Return uvicorn's protocol, which closes whoever has begun a request and does not end its head.

    Args:
        seconds: a head that has not come within once to twice this time is not waited for; and who goes on
            sending a body after the answer to it is not listened to for longer.

    """
    import h11  # noqa: PLC0415 - an extra
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415

    class Impatient(H11Protocol):
        """Looks from time to time whether a head is still not there."""

        _waits = False
        _look: asyncio.TimerHandle

        def connection_made(self, transport: Any) -> None:
            """Begin to look."""
            super().connection_made(transport)
            self._look = self.loop.call_later(seconds, self._looked)

        def connection_lost(self, exc: Exception | None) -> None:
            """End to look."""
            self._look.cancel()
            super().connection_lost(exc)

        def _looked(self) -> None:
            begun = self.cycle is None or bool(self.conn.trailing_data[0])
            waits = self.cycle is None or self.cycle.response_complete
            waits = waits and (begun or self.conn.their_state is h11.SEND_BODY)
            if waits and self._waits:
                self.transport.close()
                return
            self._waits = waits
            self._look = self.loop.call_later(seconds, self._looked)

    return Impatient
