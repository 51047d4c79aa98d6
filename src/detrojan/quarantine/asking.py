"""Asks the child process for the content of a file, and says in one line why it has none."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detrojan import errors
from detrojan.errors import DataError, DetrojanError, InputError, MissingExtraError, ModelError
from detrojan.quarantine import tree
from detrojan.quarantine.limits import Limits, in_words, limits_for, stored_size

log = logging.getLogger(__name__)

#: seconds that the first process is given to start, and that is left for an answer after its own deadline
_STARTING, _GRACE = 60.0, 10.0
_STARTER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from detrojan.quarantine.child import serve; serve(int(sys.argv[2]))"
)
#: libraries for which a parser needs no threads
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class _NoChildError(Exception):
    """No process can be started here."""


def quarantined(
    parse: Callable[..., Any],
    path: Path,
    *args: Any,
    failure: type[InputError] | None = None,
    beside: Sequence[Path] = (),
) -> Any:
    """Run `parse(path, *args)` in a process with limits, and return the plain tree that it gives back.

    Arrays and tensors come back by shared memory. Memory, time, writing and the network are limited as far as
    the system lets an ordinary process limit itself. Where no process can be started the parser runs
    here, and a warning says so.

    Args:
        parse: a function at the top of a module; it and its module should not import torch.
        path: the file from outside; its size sets the limits.
        args: plain values.
        failure: what is raised where the parser is stopped; by default what its room raises.
        beside: other files that the parser reads; their sizes count too.

    Raises:
        DetrojanError: what the parser raised.
        InputError: the parser was stopped, or died; of the type `failure`.

    """
    if failure is None:
        failure = DataError if parse.__module__.startswith("detrojan.data") else ModelError
    limits = limits_for(sum(stored_size(Path(one)) for one in (path, *beside)))
    try:
        answer, end, shared = _CHILD.ask(parse, Path(path), args, limits)
    except _NoChildError as error:
        _CHILD.note(error)
        return _here(parse, Path(path), args, failure, limits)
    try:
        return _value(answer, end, shared, Path(path), limits, failure)
    finally:
        os.close(shared)


def _here(
    parse: Callable[..., Any], path: Path, args: tuple[Any, ...], failure: type[InputError], limits: Limits
) -> Any:
    """Parse in this process: the last resort."""
    try:
        return parse(path, *args)
    except MemoryError as error:
        raise failure(_too_much(path, limits)) from error
    except RecursionError as error:
        raise failure(_too_deep(path)) from error


def _value(
    answer: bytes, end: dict[str, Any], shared: int, path: Path, limits: Limits, failure: type[InputError]
) -> Any:
    """Return what a child found, or raise what it says, or what became of it."""
    said = _object(answer)
    if "done" in said:
        try:
            _seal(shared)
            return tree.read(json.dumps(said["done"]).encode(), shared, limits.memory)
        except (tree.TreeError, OSError, ValueError, OverflowError) as error:
            raise failure(f"{path}: cannot be read: its parser handed back {error}") from error
    if said.get("over") == "memory":
        raise failure(_too_much(path, limits))
    if said.get("over") == "depth":
        raise failure(_too_deep(path))
    text = said.get("text")
    if isinstance(text, str):
        raise _raised(said, text, failure)
    if isinstance(said.get("failed"), str):
        raise failure(f"{path}: damaged, or not what it seems: {said['failed']}")
    raise failure(f"{path}: {_death(end, limits)}")


def _object(answer: bytes) -> dict[str, Any]:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _raised(said: dict[str, Any], text: str, failure: type[InputError]) -> DetrojanError:
    """Return the error that a parser raised, of its own type where that is one of ours."""
    kind = getattr(errors, str(said.get("error")), failure)
    if not isinstance(kind, type) or not issubclass(kind, DetrojanError):
        kind = failure
    if not issubclass(kind, MissingExtraError):
        return kind(text)
    missing = MissingExtraError(str(said.get("library")), str(said.get("extra")))
    missing.args = (text,)
    return missing


def _too_much(path: Path, limits: Limits) -> str:
    return (
        f"{path}: expected a file that is read in {in_words(limits.memory)} of memory, got one that needs "
        "more; --memory allows more"
    )


def _too_deep(path: Path) -> str:
    return f"{path}: expected values that are not nested too deep, got some that are"


def _death(end: dict[str, Any], limits: Limits) -> str:
    number = end.get("signal", 0)
    if end.get("late") or number == signal.SIGXCPU:
        return f"expected a file that is read in {limits.seconds} s, got one that takes longer"
    if number == signal.SIGKILL:
        return (
            f"reading it was stopped by the system: it takes too much memory, or more than {limits.seconds} s"
        )
    try:
        name = signal.Signals(number).name if number else "no answer"
    except ValueError:
        name = str(number)
    return f"damaged, or made to break its reader: the reading ended with {name}; nothing was used"


def _seal(shared: int) -> None:
    """Make sure that nobody can write to the shared memory any more, where the system can say so."""
    import fcntl  # noqa: PLC0415 - not on every system

    if hasattr(fcntl, "F_ADD_SEALS"):
        with contextlib.suppress(PermissionError):  # a file, not memory
            fcntl.fcntl(shared, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def _shared_memory(size: int) -> int:
    """Return a descriptor of memory that takes up to `size` bytes; it costs only what is written."""
    import fcntl  # noqa: PLC0415 - not on every system

    if hasattr(os, "memfd_create"):
        file = os.memfd_create("detrojan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(file, size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return file
    with tempfile.TemporaryFile() as scratch:
        file = os.dup(scratch.fileno())
    os.ftruncate(file, size)
    return file


class _Child:
    """The process that parses; started when it is first needed, and again where it died."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None
        self.noted = False

    def note(self, error: Exception) -> None:
        """Say once that files are parsed in this process."""
        if not self.noted:
            log.warning("files are parsed in this process, without limits of memory and time: %s", error)
        self.noted = True

    def ask(
        self, parse: Callable[..., Any], path: Path, args: tuple[Any, ...], limits: Limits
    ) -> tuple[bytes, dict[str, Any], int]:
        """Return the child's answer, how it ended, and the shared memory."""
        text, writer = tree.written(list(args))
        request = {
            "module": parse.__module__,
            "name": parse.__qualname__,
            "folder": _here_now(),
            "path": str(path),
            "args": json.loads(text),
            **vars(limits),
        }
        with self.lock:
            shared = None
            given = _shared_memory(max(writer.size, 1))
            try:
                tree.fill(given, writer)
                asked = self._started()
                shared = _shared_memory(limits.memory)
                answer, end = self._exchange(asked, json.dumps(request).encode(), [shared, given], limits)
            except BaseException as error:
                if shared is not None:
                    os.close(shared)
                self.end()
                if isinstance(error, OSError):
                    raise _NoChildError(str(error)) from error
                raise
            finally:
                os.close(given)
        return answer, end, shared

    def _exchange(
        self, asked: socket.socket, request: bytes, memory: list[int], limits: Limits
    ) -> tuple[bytes, dict[str, Any]]:
        ours, theirs = os.pipe()
        try:
            socket.send_fds(asked, [len(request).to_bytes(8, "little")], [*memory, theirs])
            os.close(theirs)
            theirs = -1
            asked.sendall(request)
            deadline = time.monotonic() + limits.wall + _STARTING
            answer = _until_the_end(ours, deadline, tree.LARGEST + 1024)
            if answer is None:  # it does not stop: end it with its parent
                self.end()
                return b"", {"late": True}
            asked.settimeout(max(_GRACE, deadline - time.monotonic()))
            end = _line(asked)
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)
        return answer, end

    def _started(self) -> socket.socket:
        if self.socket is not None and self.process is not None and self.process.poll() is None:
            return self.socket
        self.end()
        if not hasattr(socket, "send_fds") or not hasattr(os, "fork"):
            raise _NoChildError("this system has no processes of the kind that is needed")
        ours, theirs = socket.socketpair()
        places = [place or _here_now() for place in sys.path]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own code, started by our own interpreter
                [sys.executable, "-P", "-c", _STARTER, json.dumps(places), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **_ONE_THREAD},
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.socket = ours
        return ours

    def end(self) -> None:
        """End the process, and whatever it may have started."""
        process, asked = self.process, self.socket
        self.process = self.socket = None
        if asked is not None:
            asked.close()
        if process is not None:
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _here_now() -> str:
    """Return the folder that paths start from; empty where it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _until_the_end(file: int, deadline: float, largest: int) -> bytes | None:
    """Return all that comes out of a pipe; None where that is too much, or takes too long."""
    content = bytearray()
    while time.monotonic() < deadline and len(content) <= largest:
        if select.select([file], [], [], 1.0)[0]:
            piece = os.read(file, 1 << 16)
            if not piece:
                return bytes(content)
            content += piece
    return None


def _line(asked: socket.socket) -> dict[str, Any]:
    content = bytearray()
    while not content.endswith(b"\n"):
        piece = asked.recv(4096)
        if not piece:
            raise ConnectionError("the process that reads files ended before it answered")
        content += piece
    return _object(bytes(content))


_CHILD = _Child()


def _afresh() -> None:
    """Give a forked process a child of its own."""
    _CHILD.__init__()  # type: ignore[misc]


atexit.register(_CHILD.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_afresh)
