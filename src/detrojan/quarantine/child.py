"""The child processes in which files are parsed.

One process is started when the first file is read. It has a single thread, so it may fork: each file gets a
process of its own, with limits, which ends after one answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from detrojan.errors import DetrojanError, MissingExtraError
from detrojan.quarantine.tree import TreeError, fill, read, written

#: longest text of an error
_LONGEST = 4000
_NEW_NETWORK = 0x40000000
_OVER_MEMORY, _OVER_DEPTH = b'{"over": "memory"}', b'{"over": "depth"}'
#: files that a parser may have open at once
_OPEN = 64


def serve(number: int) -> None:
    """Answer requests from a socket until it is closed.

    Args:
        number: the socket's file descriptor.

    """
    asked = socket.socket(fileno=number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_the_network()
    while True:
        head, files, _, _ = socket.recv_fds(asked, 8, 3)
        if len(head) < 8:
            return
        request = json.loads(_exactly(asked, int.from_bytes(head, "little")))
        with contextlib.suppress(Exception):  # the child meets the same error, and reports it
            module = importlib.import_module(request["module"])
            getattr(module, "prepare", int)()  # what each child would do anew, done once
        child = os.fork()
        if child == 0:
            asked.close()
            _answer(request, *files)
        for file in files:
            os.close(file)
        asked.sendall(json.dumps(_end_of(child, request["wall"], asked)).encode() + b"\n")


def _exactly(asked: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        piece = asked.recv(min(length - len(content), 1 << 20))
        if not piece:
            os._exit(0)
        content += piece
    return bytes(content)


def _leave_the_network() -> None:
    """Give up the network where the system lets an ordinary process do so."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK)


def _end_of(child: int, wall: float, asked: socket.socket) -> dict[str, Any]:
    """Wait for a child, no longer than `wall` seconds, and return how it ended."""
    deadline, pause, late = time.monotonic() + wall, 0.0005, False
    while True:
        done, status, _ = os.wait4(child, os.WNOHANG)
        if done:
            with contextlib.suppress(OSError):  # whatever it may have started
                os.killpg(child, signal.SIGKILL)
            return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "late": late}
        gone = bool(select.select([asked], [], [], pause)[0])  # nothing else is sent meanwhile
        late = time.monotonic() > deadline
        if gone or late:
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        if gone:
            os._exit(0)
        pause = min(2 * pause, 0.02)


def _answer(request: dict[str, Any], shared: int, given: int, reply: int) -> None:
    """Parse one file and end this process."""
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        text = _parsed(request, shared, given)
    except MemoryError:
        text = _OVER_MEMORY
    except RecursionError:
        text = _OVER_DEPTH
    except BaseException as error:  # noqa: BLE001 - whatever a parser raises has to be reported
        text = _in_words(error)
    with contextlib.suppress(BaseException):
        while text:
            text = text[os.write(reply, text) :]
    os._exit(0)


def _parsed(request: dict[str, Any], shared: int, given: int) -> bytes:
    with contextlib.suppress(OSError):
        os.chdir(request["folder"])
    parse: Any = importlib.import_module(request["module"])
    for name in request["name"].split("."):
        parse = getattr(parse, name)
    path, args = Path(request["path"]), read(json.dumps(request["args"]).encode(), given, sys.maxsize)
    _limit(request["memory"], request["seconds"])
    try:
        text, writer = written(parse(path, *args))
    except TreeError as error:
        return json.dumps({"failed": f"it holds {error}"}).encode()
    if writer.size > request["memory"]:
        return _OVER_MEMORY
    fill(shared, writer)
    return b'{"done": ' + text + b"}"


def _in_words(error: BaseException) -> bytes:
    text = str(error)[:_LONGEST]
    if isinstance(error, MissingExtraError):
        said = {"error": "MissingExtraError", "text": text, "library": error.library, "extra": error.extra}
    elif isinstance(error, DetrojanError):
        said = {"error": type(error).__name__, "text": text}
    else:
        said = {"failed": f"{type(error).__name__}: {text}"}
    return json.dumps(said).encode()


def _limit(memory: int, seconds: int) -> None:
    """Limit what this process may take from now on; each limit holds where the system has it."""
    mapped = 0
    with contextlib.suppress(OSError, ValueError):
        mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    wanted = [
        ("RLIMIT_AS", memory + mapped),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", _OPEN),
    ]
    for name, value in wanted:
        kind = getattr(resource, name, None)
        if kind is None or (name == "RLIMIT_AS" and not mapped):
            continue
        with contextlib.suppress(OSError, ValueError):
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            # the first limit of time gives a signal that says so, the second one just ends the process
            resource.setrlimit(kind, (most, most + 1 if name == "RLIMIT_CPU" and most == value else most))


if __name__ == "__main__":
    serve(int(sys.argv[-1]))
