"""Describes the machine on which the figures are measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.native import compiler


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _caches() -> str:
    """Of cpu 0: L1d 32K, L2 1M, ..."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / x).read_text().strip() for x in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level}{'d' if kind == 'Data' else ''} {size}")
    return ", ".join(found) or "unknown"


def _vectors() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            return " ".join(x for x in ("avx2", "avx512f", "avx512bw", "avx512_vbmi2") if x in flags) or "none"
    return "unknown"


def _memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / (1 << 30):.1f} GiB"


def _file_system(folder: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, at, kind = line.split()[:3]
        if folder.resolve().is_relative_to(at) and len(at) >= len(best[0]):
            best = (at, kind)
    return best[1]


def describe(disk: Path) -> dict[str, str]:
    """The facts by name, in the order in which they are printed."""
    version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "caches": _caches(),
        "vectors": _vectors(),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "compiler": version.splitlines()[0] if version else "unknown",
        "python": platform.python_version(),
        "disk": _file_system(disk),
        "load": " ".join(Path("/proc/loadavg").read_text().split()[:3]),
    }
