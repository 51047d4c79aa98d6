from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.machine import bfloat16_is_fast, cores, free_memory, give_memory_back, keep_memory, tune


def test_threads_are_set_and_denormals_count_as_zero():
    code = (
        "import torch\nfrom detrojan.machine import tune\ntune(1)\n"
        "print(torch.get_num_threads(), float(torch.tensor(1e-40) * torch.ones(1)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0.0"]


def test_fewer_than_one_thread_is_refused():
    before = torch.get_num_threads()
    with pytest.raises(OptionError, match="expected 1 thread or more, got 0"):
        tune(0)
    assert torch.get_num_threads() == before


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_memory() is False
    assert give_memory_back() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_stays_with_the_process():
    code = (
        "import resource\nfrom detrojan.machine import keep_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): bytearray(40_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "loose = faults()\nassert keep_memory()\nfaults()\nprint(loose, faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loose, kept = map(int, done.stdout.split())
    assert kept < loose / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_is_given_back_when_asked():
    code = (
        "from detrojan.machine import give_memory_back, keep_memory\n"
        "def held():\n"
        "    status = open('/proc/self/status').read().split('VmRSS:')[1]\n"
        "    return int(status.split()[0]) * 1024\n"
        "keep_memory()\nbegun = held()\n"
        "first = bytearray(b'x' * 200_000_000)\nlast = bytearray(b'x' * 1_000_000)\n"
        "del first\nkept = held()\nassert give_memory_back()\nprint(kept - begun, held() - begun)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 150_000_000
    assert left < 50_000_000


def test_bfloat16_is_fast_where_the_processor_has_instructions_for_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not bfloat16_is_fast(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, names[1], lambda: True)
    assert bfloat16_is_fast(torch.device("cpu"))
    for name in names:
        monkeypatch.delattr(torch.cpu, name)
    assert not bfloat16_is_fast(torch.device("cpu"))
    assert not bfloat16_is_fast(torch.device("meta"))


def test_bfloat16_is_not_fast_where_torch_was_told_to_use_older_instructions(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    for capability, fast in (("AVX512", True), ("AVX2", False), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda told=capability: told)
        assert bfloat16_is_fast(torch.device("cpu")) is fast


def test_cores_and_free_memory_are_those_of_this_process():
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert 1 << 20 < free_memory() < 1 << 62
