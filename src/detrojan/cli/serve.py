"""`detrojan serve`: a guard in service."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from detrojan.console.options import FILE, RunOptions, Verb, short_run_options
from detrojan.console.state import current

#: the token is not an option: other users of the machine see a call's words
TOKEN, UPSTREAM_TOKEN = "DETROJAN_SERVE_TOKEN", "DETROJAN_UPSTREAM_TOKEN"
_AT_LEAST_1, _ABOVE_0, _NOT_BELOW_0 = (
    click.IntRange(min=1),
    click.FloatRange(0, min_open=True),
    click.FloatRange(0),
)


def _option(name: str, kind: Any, default: Any, text: str, metavar: str = "N") -> Callable[[Verb], Verb]:
    return click.option(name, type=kind, default=default, show_default=True, metavar=metavar, help=text)


@click.command(
    "serve",
    short_help="Answer over HTTP, behind a guard.",
    context_settings={"auto_envvar_prefix": "DETROJAN_SERVE"},
    epilog="\b\nExample:\n  detrojan serve guard --mode block --port 8000",
)
@click.argument("guard", type=FILE)
@click.option(
    "--mode", type=click.Choice(["annotate", "block", "shadow"]), default="annotate", show_default=True,
    help="annotate: add score, verdict and reason to each answer. block: do not answer rejected inputs. "
    "shadow: answer as the model does, and log.",
)  # fmt: skip
@click.option(
    "--blocked", type=click.Choice(["error", "class"]), default="error", show_default=True,
    help="What a rejected input gets with --mode block: an error, or one class more than the model has.",
)  # fmt: skip
@_option("--host", str, "127.0.0.1", "Listen at this address; 0.0.0.0 for all of this machine's.", "ADDRESS")
@_option("--port", click.IntRange(0, 65535), 8000, "Listen at this port; 0 for a free one.")
@click.option("--name", metavar="NAME",
    help="The model's name in the protocol.  [default: model, or that at --upstream]",
)  # fmt: skip
@click.option(
    "--upstream", metavar="URL",
    help="The server that has the model (Open Inference Protocol v2: KServe, Triton, MLServer). Its answers "
    "are passed on.",
)  # fmt: skip
@click.option(
    "--upstream-model", metavar="NAME", help="The model's name there.  [default: that of the calibration]"
)
@_option("--upstream-timeout", _ABOVE_0, 10.0, "Seconds that it may take for one answer.", "S")
@_option("--upstream-wait", _NOT_BELOW_0, 60.0, "Seconds that the start waits for it.", "S")
@click.option(
    "--upstream-token-file", type=FILE, metavar="FILE",
    help=f"It is sent the token in this file, or in ${UPSTREAM_TOKEN}.",
)  # fmt: skip
@_option("--batch", _AT_LEAST_1, 32, "Ask the network for so many images at one time.")
@_option("--delay", _NOT_BELOW_0, 5.0, "Milliseconds that an image waits for others.", "MS")
@_option("--queue", _AT_LEAST_1, 256, "Images that may wait; requests beyond are sent away at once.")
@_option("--images", _AT_LEAST_1, 64, "Images in one request, at most.")
@_option("--body", _ABOVE_0, 16.0, "Megabytes of one request, at most.", "MB")
@_option("--bodies", _ABOVE_0, 256.0, "Megabytes of all requests that are held, at most.", "MB")
@_option("--requests", _AT_LEAST_1, 256, "Requests in progress, at most.")
@_option("--timeout", _ABOVE_0, 30.0, "Seconds for a request to come, and for its answer.", "S")
@_option("--drain", _NOT_BELOW_0, 30.0, "Seconds for what was accepted, once the service is stopped.", "S")
@_option("--grace", _NOT_BELOW_0, 0.5, "Seconds of being not ready before a stop.", "S")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="Answer to this Host too; * for all. May be repeated.  [default: names of this machine with a "
    "loopback address, else all]",
)  # fmt: skip
@click.option(
    "--token-file", type=FILE, metavar="FILE",
    help=f"Clients have to send the token in this file, or in ${TOKEN}.",
)  # fmt: skip
@click.option("--keep", type=FILE, metavar="DIR", help="Keep rejected inputs here, as PNG.")
@_option("--keep-most", _AT_LEAST_1, 1000, "Files there, at most; the oldest go.")
@_option(
    "--alarm-every", click.FloatRange(100, min_open=True), 1e6,
    "Inputs per false alarm of attack or drift, on average, at least.",
)  # fmt: skip
@click.option(
    "--factory",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="Your own code that makes the network, where it needs some; it is imported and run.",
)
@short_run_options
def command(
    guard: Path,
    surroundings: RunOptions,
    factory: str | None,
    token_file: Path | None,
    upstream_token_file: Path | None,
    **settings: Any,
) -> int:
    """Answer requests of the Open Inference Protocol (version 2) by the model of a GUARD's folder.

    With --upstream the model of another server answers, and the guard stands before it.

    The page at / shows what comes in. /metrics is for Prometheus. SIGTERM and Ctrl-C stop the service after
    it has answered what it has accepted.

    Every option can be stated in the environment too, --mode as DETROJAN_SERVE_MODE, or in the table
    [serve] of detrojan.toml.
    """
    from detrojan.console.surroundings import start  # noqa: PLC0415 - `--help` shall be fast
    from detrojan.serve.opening import open_guard  # noqa: PLC0415
    from detrojan.serve.options import ServeOptions, read_token  # noqa: PLC0415
    from detrojan.serve.server import Server, check_libraries  # noqa: PLC0415

    check_libraries()
    token = os.environ.get(TOKEN) or (None if token_file is None else read_token(token_file))
    upstream_token = None if upstream_token_file is None else read_token(upstream_token_file)
    options = ServeOptions(guard=guard, token=token, upstream_token=upstream_token, **settings)
    run, say = start(surroundings), current().note
    opened, upstream = open_guard(
        options, device=run.device, factory=factory, waiting=lambda text: say(f"waiting for {text}")
    )
    server = Server(opened, options, upstream=upstream)
    current().note(f"serving {guard} at {server.url}; Ctrl-C stops")
    if token is None and options.answers_to is None:
        current().note(
            "warning: everybody who reaches this address may ask; --token-file asks for a token",
            "bold yellow",
        )
    server.run()
    return 0
