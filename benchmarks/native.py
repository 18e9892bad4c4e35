"""The C beside the benchmarks (reference.c, pump.c), compiled when it is first wanted and after each change."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks import BUILD

HERE = Path(__file__).resolve().parent
FLAGS = ["-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra"]

CDEF = """
uint64_t ref_scan_core(void *function, const uint64_t *words, uint64_t nr_bits, uint32_t times);
uint64_t ref_scan_bits(const uint64_t *words, uint64_t nr_bits, uint32_t times);
uint64_t ref_read(const uint64_t *words, uint64_t nr_words, uint32_t times);
int ref_normalise_core(void *function, const void *p2m, uint32_t level, const uint64_t *tables, uint64_t nr,
                       uint64_t *arena);
int ref_normalise_plain(const uint64_t *m2p, uint64_t nr_mfns, const uint64_t *p2m, uint64_t nr_pfns, uint32_t level,
                        const uint64_t *tables, uint64_t nr, uint64_t *last);
int ref_stub_batches(const void *const *functions, void *xch, void *fmem, uint32_t domid, const uint64_t *frames,
                     uint64_t nr_pages);
int ref_writev(int fd, const void *memory, uint64_t nr_pages);
int ref_writev_pages(int fd, const void *memory, const uint64_t *numbers, uint64_t nr_pages);
int ref_read_pages(int fd, void *memory, uint64_t nr_pages);
void ref_touch(void *memory, uint64_t nr_pages);
"""


class BuildError(Exception):
    """The compiler failed; the text is what it said."""


def compiler() -> list[str]:
    """The C compiler: $CC, or cc."""
    return shlex.split(os.environ.get("CC", "cc"))


def _built(source: Path, suffix: str, options: list[str]) -> Path:
    """The file made from a source, made anew if the source is another."""
    command = [*compiler(), *FLAGS, *options]
    key = hashlib.sha256(source.read_bytes() + "\0".join(command).encode()).hexdigest()[:16]
    made = BUILD / f"{source.stem}-{key}{suffix}"
    if made.exists():
        return made
    BUILD.mkdir(parents=True, exist_ok=True)
    partial = made.with_name(f"{made.name}.{os.getpid()}")
    done = subprocess.run([*command, str(source), "-o", str(partial)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}: {done.stderr}")
    partial.replace(made)
    return made


@lru_cache(maxsize=1)
def _ffi() -> Any:
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(CDEF)
    return ffi


@lru_cache(maxsize=1)
def reference() -> tuple[Any, Any]:
    """cffi's ffi and library of reference.c."""
    return _ffi(), _ffi().dlopen(str(_built(HERE / "reference.c", ".so", ["-shared", "-fPIC"])))


def pump() -> Path:
    """The program made from pump.c."""
    return _built(HERE / "pump.c", "", [])
