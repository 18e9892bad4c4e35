"""Builds and runs the libFuzzer target in C (pages.c), with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from fuzz.mutate import apart
from fuzz.targets import is_hvm

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=fuzzer,address,undefined",
         "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]  # fmt: skip
STUB_FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=address", "-fno-omit-frame-pointer"]
"""The stub is not what is looked for, but what is handed to it must be there: its edges do not guide the fuzzer."""
PV, PV32, HVM = b"\x80\x01", b"\x80\x21", b"\x80\x41"
"""An input's first bytes: see pages.c."""
ENVIRON = {"ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


APART = ["sh", "-c", '"$@"; exit $?', "sh"]
"""Runs a program as a child of a shell. libFuzzer ends when its process has ever held more than its limit. Linux counts
what the process held before exec, too: all of a worker of pytest, whose tests may once have held 2 GiB."""


class Run(NamedTuple):
    """Of libFuzzer: executions, edges reached, inputs kept; and what it said if it stopped early."""

    executions: int
    edges: int
    inputs: int
    crash: str


def missing() -> str:
    """What is not installed, if anything."""
    if shutil.which("clang") is None:
        return "clang is not installed: apt-get install clang libclang-rt-14-dev"
    done = subprocess.run(
        ["clang", "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", "/dev/null"],
        input=b"#include <stdint.h>\n#include <stddef.h>\n"
        b"int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n) { (void)d; return n == 0; }",
        capture_output=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else "clang has no libFuzzer: apt-get install libclang-rt-14-dev"


def build(folder: Path) -> Path:
    """The program. Raises RuntimeError."""
    headers = [] if Path("/usr/include/xenctrl.h").exists() else [f"-I{TOP / 'csrc/abi'}"]
    include = [f"-I{TOP / 'csrc'}", *headers]
    found, made = sorted((TOP / "csrc").rglob("*.c")), folder / "pages"
    sources = [x for x in found if "loader" not in x.relative_to(TOP / "csrc").parts]  # it defines what the stub does
    stub = [x for x in sources if "stub" in x.relative_to(TOP / "csrc").parts]
    core = [x for x in sources if x not in stub]
    for number, parent in enumerate(sorted({x.parent for x in stub})):  # by folder: names repeat in others
        objects = folder / f"stub{number}"
        objects.mkdir()
        clang([*STUB_FLAGS, *include, "-c", *(str(x) for x in stub if x.parent == parent)], objects)
    inputs = [*core, HERE / "pages.c", *folder.glob("stub*/*.o")]
    clang([*FLAGS, *include, *map(str, inputs), "-o", str(made), "-lpthread"], folder)
    return made


def clang(words: list[str], folder: Path) -> None:
    """Runs the compiler in a folder. Raises RuntimeError."""
    done = subprocess.run(["clang", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def seed_inputs(seeds: list[bytes], folder: Path) -> None:
    """The PAGE_DATA records of streams, as inputs of this target: a page of each type in each."""
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(seeds):
        records = apart(data)[1]
        bodies = [body for code, body in records if code == 1]
        narrow = any(code == 2 and body[:1] == b"\x04" for code, body in records)
        for at, body in enumerate(bodies[:6]):
            short = shortened(body)
            kind = HVM if is_hvm(data) else PV32 if narrow else PV
            (folder / f"seed{number}-{at}").write_bytes(kind + struct.pack("<I", len(short)) + short)


def shortened(body: bytes, most: int = 6) -> bytes:
    """The record with a few entries only, of types as different as there are."""
    (count,) = struct.unpack_from("<I", body)
    entries, at, seen, taken, pages = struct.unpack_from(f"<{count}Q", body, 8), 8 + 8 * count, set(), [], b""
    for entry in entries:
        size = 4096 if entry >> 60 < 13 else 0
        if entry >> 60 not in seen and len(taken) < most:
            seen.add(entry >> 60)
            taken.append(entry)
            pages += body[at : at + size]
        at += size
    return struct.pack(f"<II{len(taken)}Q", len(taken), 0, *taken) + pages


def run(program: Path, corpus: Path, seconds: int, seed: int = 1) -> Run:
    """Fuzzes for so long; ``corpus`` takes what is found. One finding ends it."""
    command = [*APART, str(program), f"-max_total_time={seconds}", "-max_len=65536", f"-seed={seed}",
               "-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1", "-use_value_profile=1",
               str(corpus)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=corpus.parent, check=False,
                          env={**os.environ, **ENVIRON})  # fmt: skip
    edges = re.findall(r"cov: (\d+)", done.stderr)
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    crash = "" if done.returncode == 0 else done.stderr[-4000:]
    inputs = len(list(corpus.iterdir()))
    return Run(int(executed[1]) if executed else 0, int(edges[-1]) if edges else 0, inputs, crash)
