"""The same service on Ray Serve, in several replicas, on one machine or on many.

::

    serve run detrojan.serve.on_ray:app guard=/models/guard replicas=2 mode=block

Each replica has a copy of the guard, a queue, and a watch for attack and drift of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from detrojan.errors import OptionError
from detrojan.extras import require
from detrojan.records import wrong_places
from detrojan.serve.options import TOKEN, ServeOptions

#: what Ray settles, not the replica
_RAYS = ("replicas", "cpus", "gpus")
#: where Ray listens, and secrets, are no arguments
_NOT_HERE = frozenset({"host", "port", "token", "upstream_token"})


def options_of(arguments: Mapping[str, Any]) -> ServeOptions:
    """Return the settings of a replica.

    Args:
        arguments: by the names of `ServeOptions`, as texts or as values; host names separated by commas.

    Raises:
        OptionError: an unknown name, or a value outside of its range.

    """
    known = [field.name for field in fields(ServeOptions) if field.name not in _NOT_HERE]
    unknown = [name for name in arguments if name not in known]
    if unknown or "guard" not in arguments:
        got = ", ".join(unknown or arguments) or "none"
        raise OptionError(f"expected guard=FOLDER, and settings out of {', '.join(known)}, got {got}")
    values = dict(arguments)
    if isinstance(hosts := values.get("hosts"), str):
        values["hosts"] = tuple(hosts.split(","))
    values["guard"] = os.path.abspath(values["guard"])  # noqa: PTH100 - a replica may work elsewhere
    try:
        return TypeAdapter(ServeOptions).validate_python(values)
    except ValidationError as error:
        raise OptionError(f"wrong settings: {wrong_places(error)}") from error


def app(arguments: dict[str, Any]) -> Any:
    """Return the application for `serve run`, or for `ray.serve.run`.

    The tokens are read in the replicas, out of `DETROJAN_SERVE_TOKEN` and `DETROJAN_UPSTREAM_TOKEN`.

    Args:
        arguments: `guard`, the folder; `replicas`, 1 or more; `cpus` and `gpus` of each replica; and the
            settings of `ServeOptions`.

    Raises:
        MissingExtraError: Ray is not installed.
        OptionError: an unknown name, or a value outside of its range.

    """
    serve = require("ray.serve", extra="ray", what="services in several replicas")
    own = {name: arguments[name] for name in _RAYS if name in arguments}
    options = options_of({name: value for name, value in arguments.items() if name not in own})
    try:
        replicas, cpus, gpus = (
            int(own.get("replicas", 1)),
            float(own.get("cpus", 1)),
            float(own.get("gpus", 0)),
        )
    except ValueError as error:
        raise OptionError(f"expected numbers of {', '.join(_RAYS)}, got {own}") from error
    if replicas < 1 or not (cpus > 0 <= gpus):
        raise OptionError(f"expected 1 or more replicas and a share of a machine for each, got {own}")
    deployed = serve.deployment(
        name="detrojan",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=options.requests,
        graceful_shutdown_timeout_s=max(1.0, options.drain),
    )
    return deployed(serve.ingress(_builder(options))()).bind()


def _builder(options: ServeOptions) -> Callable[[], Any]:
    """Return what makes the application within a replica."""

    def build() -> Any:
        from detrojan.serve.log import logger  # noqa: PLC0415 - the replica's own
        from detrojan.serve.opening import open_guard  # noqa: PLC0415
        from detrojan.serve.routes import application  # noqa: PLC0415
        from detrojan.serve.server import check_libraries  # noqa: PLC0415
        from detrojan.serve.service import Service  # noqa: PLC0415

        check_libraries()
        own = replace(options, token=os.environ.get(TOKEN) or None)
        guard, upstream = open_guard(own)
        return application(Service(guard, own, logger(), upstream))

    return build
