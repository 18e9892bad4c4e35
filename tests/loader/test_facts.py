"""The loader's table says what the headers of each release say; so do our own headers, and those that are installed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from loader import facts

pytestmark = pytest.mark.toolchain

CSRC = Path(__file__).resolve().parents[2] / "csrc"
OWN = (f"-I{CSRC}", f"-I{CSRC / 'abi'}")
INSTALLED = Path("/usr/include/xenctrl.h")
XEN = ("xenctrl.h", "xenguest.h", "xenforeignmemory.h", "xenstore.h", "xen/memory.h")
LINE = re.compile(r"(\d+)-(\d+) (.*?)(\w+)(\(.*\))$")

TABLE = r"""
#include <stdio.h>
#include "loader/table.h"
#define RELEASE(minor, domctl, store, size) printf("%d %d %s %d\n", minor, domctl, store, size);
#define SAME(library, result, name, parameters, arguments) \
    if (__builtin_types_compatible_p(__typeof__(name), __typeof__(fact_##name##_14))) printf(#name " 14 %d\n", NEWEST);
#define FORM(library, symbol, first, last, name, result, parameters) { \
    result(*form) parameters; \
    if (__builtin_types_compatible_p(__typeof__(*form), __typeof__(fact_##symbol##_##first))) \
        printf(#symbol " %d %d\n", first, last); }
"""


def compiled(folder: Path, text: str, *flags: str) -> list[str]:
    """What a program prints."""
    source, binary = folder / "p.c", folder / "p"
    source.write_text(text)
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-w", "-D_GNU_SOURCE", *flags, str(source), "-o", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.splitlines()


def lines() -> list[tuple[int, int, str, str, str]]:
    """The facts' prototypes: first and last release, result, name, parameters."""
    found = [LINE.fullmatch(x) for x in facts.PROTOTYPES.replace("\n    ", " ").strip().splitlines()]
    assert all(found)
    return [(int(x[1]), int(x[2]), x[3], x[4], x[5]) for x in found if x]


def declared() -> str:
    """Each function of the facts under a name of its own, which ends with its first release."""
    return "\n".join(f"extern {result}fact_{name}_{first}{given};" for first, _, result, name, given in lines())


def layout() -> str:
    """A program that prints all sizes, offsets and numbers of the facts."""
    text = [f'printf("size {name} %zu\\n", sizeof({name}));' for name in facts.SIZES]
    for name, members in facts.OFFSETS.items():
        text += [f'printf("offset {name} {x} %zu\\n", __builtin_offsetof({name}, {x}));' for x in members]
    text += [f'printf("number {name} %lld\\n", (long long)({name}));' for name in facts.NUMBERS]
    includes = "\n".join(f"#include <{x}>" for x in XEN)
    return f"#include <stdio.h>\n{includes}\nint main(void) {{\n" + "\n".join(text) + "\n}\n"


def expected() -> list[str]:
    found = [f"size {name} {size}" for name, size in facts.SIZES.items()]
    for name, members in facts.OFFSETS.items():
        found += [f"offset {name} {x} {at}" for x, at in members.items()]
    return found + [f"number {name} {value}" for name, value in facts.NUMBERS.items()]


def test_releases_and_prototypes_of_the_table(tmp_path: Path) -> None:
    """A function whose prototype is not the fact's is not printed, and so is missed."""
    body = "int main(void) { LOADER_RELEASES(RELEASE) LOADER_SAME(SAME) LOADER_FORMS(FORM) }"
    told = compiled(tmp_path, f"{TABLE}{declared()}\n{body}", *OWN)
    releases = [x for x in told if x[0].isdigit()]
    assert releases == [f"{n} {facts.DOMCTL[n]} {facts.STORE[n]} {facts.DOMAININFO[n]}" for n in facts.DOMCTL]
    functions = [x for x in told if not x[0].isdigit()]
    assert sorted(functions) == sorted(f"{name} {first} {last}" for first, last, _, name, _ in lines())
    assert len(functions) > 60


def test_sizes_and_offsets_of_our_own_headers(tmp_path: Path) -> None:
    assert compiled(tmp_path, layout(), *OWN) == expected()


@pytest.mark.skipif(not INSTALLED.exists(), reason="needs libxen-dev: there is nothing to compare with")
def test_the_facts_against_the_installed_headers(tmp_path: Path) -> None:
    """Sizes, offsets, numbers and prototypes of the release that is installed here."""
    extra = '\nprintf("size info %zu\\ndomctl %d\\n", sizeof(xc_domaininfo_t), XEN_DOMCTL_INTERFACE_VERSION);\n}\n'
    told = compiled(tmp_path, layout().replace("\n}\n", extra))
    domctl = int(told.pop().split()[1])
    releases = [n for n, version in facts.DOMCTL.items() if version == domctl]
    assert releases, f"the installed headers are of none of the releases in the table: domctl {domctl:#x}"
    assert told.pop() == f"size info {facts.DOMAININFO[releases[0]]}"
    assert told == expected()
    current = [x for x in lines() if x[0] <= releases[0] <= x[1] and x[3] != "xc_get_pfn_type_batch"]
    checks = [f"if (!__builtin_types_compatible_p(__typeof__({x[3]}), {x[2]}{x[4]})) puts({x[3]!r});" for x in current]
    text = "\n".join(["#include <stdio.h>", *(f"#include <{x}>" for x in XEN), "int main(void) {", *checks, "}"])
    assert compiled(tmp_path, text.replace("'", '"')) == []
    assert len(current) > 55


def test_every_function_that_the_core_calls_is_in_the_table() -> None:
    called = re.compile(r"\b((?:xc|xs|xenforeignmemory)_\w+)\(")
    text = "\n".join(x.read_text() for x in CSRC.rglob("*.c") if x.relative_to(CSRC).parts[0] not in ("stub", "loader"))
    macros = {"xc_hypercall_buffer_alloc", "xc_hypercall_buffer_free"}
    macros |= {f"{x}_pages" for x in macros}
    table = {x[3] for x in lines() if x[1] == facts.NEWEST}
    assert set(called.findall(text)) - macros == {x for x in table if not x.startswith("xc__")}
