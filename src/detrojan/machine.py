"""Sets the process up for many small tensors: threads, denormal numbers, and memory that is kept."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from detrojan.errors import OptionError

logger = logging.getLogger(__name__)

#: numbers of glibc's mallopt parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
#: whether this process was set up; not empty once it was
_tuned: list[bool] = []
#: memory that is asked for at once when the heap has to grow, in bytes
_PAD = 256 * 2**20


def tune(threads: int | None = None) -> None:
    """Set the process up for work on many small batches; for programs, not for use as a library.

    Freed memory is kept instead of given back to the system: the same buffers are needed again in
    the next step, and page faults can cost more than the arithmetic. Denormal numbers count as 0.

    Args:
        threads: computing threads; None leaves torch's choice.

    Raises:
        OptionError: fewer than 1 thread.

    """
    if threads is not None:
        if threads < 1:
            raise OptionError(f"expected 1 thread or more, got {threads}")
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_memory()
    _tuned.append(True)


def device_named(name: str) -> str:
    """Return a torch device's name; for "auto" cuda where there is one, else cpu.

    Apple's mps has to be named: it has no float64, which the statistics need.

    """
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        OptionError: torch cannot use it.

    """
    try:
        torch.empty(1, device=torch.device(name)).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(f"expected a device that torch can use, got {name!r}: {reason}") from error


def is_tuned() -> bool:
    """Whether `tune` has set this process up."""
    return bool(_tuned)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by instructions of its own.

    A processor that has them does not count where torch uses older ones: it emulates bfloat16 then.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    # torch has no public names for these; where they change, the searches work in float32
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in asked)


def keep_memory() -> bool:
    """Have glibc keep freed memory; return whether it does. Nothing happens with another C library."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    asked = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _PAD))
    taken = [mallopt(name, value) == 1 for name, value in asked]
    logger.debug("freed memory is kept: %s", all(taken))
    return all(taken)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library by its name, where that is glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found


def give_memory_back() -> bool:
    """Give freed memory back to the system now; return whether that is possible.

    For the end of a stage whose buffers the next one does not need: they lie where its own do not fit.
    """
    trim = _of_glibc("malloc_trim")
    return trim is not None and trim(0) == 1


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Return the bytes that new work may take: what the system has free, within a container's limit."""
    free = _system_memory()
    with suppress(OSError, ValueError):  # no container, or one without a limit
        most, taken = (
            int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current")
        )
        free = min(free, max(0, most - taken))
    return free


def _system_memory() -> int:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1 << 62  # it cannot be told
