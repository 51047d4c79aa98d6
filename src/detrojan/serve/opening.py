"""Opens a guard for a service: with its own model, or with that of an upstream server."""

from __future__ import annotations

import time
from collections.abc import Callable

from detrojan.errors import EndpointError, OptionError
from detrojan.guards.base import Calibrated
from detrojan.guards.bundle import asks_a_server, load_bundle
from detrojan.serve.options import ServeOptions
from detrojan.serve.upstream import Upstream, patience_of

#: seconds between two looks for an upstream that is not there yet
_PAUSE = 0.5


def open_guard(
    options: ServeOptions,
    *,
    device: str = "auto",
    factory: str | None = None,
    waiting: Callable[[str], None] = lambda _text: None,
) -> tuple[Calibrated, Upstream | None]:
    """Return the guard of a folder, and the server of its model.

    A server that is not there yet is waited for.

    Args:
        options: the settings, which name the folder.
        device: a torch device name, or "auto".
        factory: the user's own code that makes the network.
        waiting: is given what the upstream's server said, once, where it is waited for.

    Raises:
        DataError: no guard there, or one that is damaged.
        EndpointError: the upstream did not answer in time.
        ModelError: a model cannot be read, or is another one.
        OptionError: the guard needs a server and none is stated, or the settings do not fit it.

    """
    if options.upstream is None:
        if asks_a_server(options.guard):
            raise OptionError(
                f"{options.guard}: expected --upstream URL of the server that has the guard's model"
            )
        return load_bundle(options.guard, device=device, factory=factory), None
    until, told = time.monotonic() + options.upstream_wait, False
    while True:
        try:
            guard = _opened(options, device, factory)
            return guard, Upstream(guard, options)
        except EndpointError as error:
            if time.monotonic() >= until:
                raise
            if not told:
                waiting(str(error))
                told = True
            time.sleep(_PAUSE)


def _opened(options: ServeOptions, device: str, factory: str | None) -> Calibrated:
    if not asks_a_server(options.guard):
        return load_bundle(options.guard, device=device, factory=factory)
    return load_bundle(
        options.guard,
        url=options.upstream,
        patience=patience_of(options),
        token=options.upstream_token,
    )
