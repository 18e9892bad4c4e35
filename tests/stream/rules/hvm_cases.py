"""HVM streams with one thing wrong each."""

from __future__ import annotations

import struct

from support import hvm
from support import streams as build

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.stream import records as rec
from stream.rules.cases import Records, case, change, set_page

STORE, CONSOLE = (1, 5), (17, 6)


def _params(name: str, words: str, *params: tuple[int, int], rules: str = "hvm-param") -> None:
    def wrong(records: Records) -> None:
        change(records, rec.HvmParams, params=[STORE, CONSOLE, *params])

    wrong.__name__ = f"param_{name}"
    case(rules, "HVM_PARAMS", words, base=build.hvm)(wrong)


_params("twice", "CONSOLE_PFN comes twice", CONSOLE)
_params("unknown", "there is no parameter 39", (39, 1))
_params("of_2_to_40", "there is no parameter 1099511627776", (1 << 40, 1))
_params("refused", "NESTEDHVM 0x1 cannot be set", (24, 1))
_params("pfn", "IOREQ_PFN 0x10000000000 must be a pfn below", (5, 1 << 40))
_params("ident_pt", "IDENT_PT 0x4001 must be the address of a page", (12, 0x4001))
_params("viridian", "must be bit 0", (9, 2))
_params("never_sent", "the page of IDENT_PT is pfn 0x999, which was never sent", (12, 0x999000), rules="hvm-page")


@case("hvm-page", "HVM_PARAMS", "the page of STORE_PFN is pfn 0x3, which was last sent as XTAB", base=build.hvm)
def store_is_a_hole(records: Records) -> None:
    change(records, rec.HvmParams, params=[(1, 3), CONSOLE])


@case("hvm-page", "HVM_PARAMS", "the page of CONSOLE_PFN is pfn 0x6, which was last sent as XALLOC", base=build.hvm)
def console_is_only_allocated(records: Records) -> None:
    set_page(records, 6, PageType.XALLOC, b"")


@case("hvm-page", "HVM_PARAMS", "the page of STORE_PFN is pfn 0x99, which was never sent", base=build.hvm)
def store_and_console_never_sent(records: Records) -> None:
    change(records, rec.HvmParams, params=[(1, 0x99), (17, 0x9A)])


def _context(name: str, words: str, blob: bytes) -> None:
    def wrong(records: Records) -> None:
        change(records, rec.HvmContext, blob=blob)

    wrong.__name__ = f"context_{name}"
    case("hvm-context", "HVM_CONTEXT", words, base=build.hvm)(wrong)


_GOOD = hvm.context()
_context("random", "claims", b"what Xen gav")
_context("half", "without an END", _GOOD[:-8])
_context("magic", "magic number", hvm.header(magic=1) + _GOOD[32:])
_context("without_header", "not with HEADER", _GOOD[32:])
_context("without_cpu", "no registers", hvm.header() + hvm.END)
_context("unknown", "type 21, which no Xen up to 4.22 has", _GOOD[:-8] + hvm.record(21, 0, b"") + hvm.END)
_context("behind_end", "8 bytes follow its END (at byte", _GOOD + bytes(8))
_context("short_cpu", "must have 1016 or 1024 or 1032", hvm.header() + hvm.record(hvm.CPU, 0, bytes(8)) + hvm.END)
_context("long_lapic", "must have 16 or 24 or 32", _GOOD[:-8] + hvm.record(hvm.LAPIC, 1, bytes(40)) + hvm.END)

for _kind in (PageType.L1TAB, PageType.L4TAB_PINNED):

    def _table(records: Records, kind: PageType = _kind) -> None:
        set_page(records, 5, kind, bytes(PAGE_SIZE))

    _table.__name__ = f"{_kind.name}_in_hvm"
    case("page-type-guest", "PAGE_DATA", f"pfn 0x5 is {_kind.name}", base=build.hvm)(_table)


# What goes by the name of XSAVE in PV streams


def _xsave(name: str, blob: bytes, rule: str, words: str) -> None:
    def wrong(records: Records) -> None:
        change(records, rec.VcpuXsave, blob=blob)

    wrong.__name__ = f"xsave_{name}"
    case(rule, "X86_PV_VCPU_XSAVE", words)(wrong)


for _size in (17, 100, 576, 591):
    _xsave(str(_size), bytes(_size), "xsave", "must be 16 or at least 592")
_xsave("15", bytes(15), "vcpu-size", "at least 16")
_xsave("without_area", struct.pack("<QQ", 7, 7), "xsave", "xcr0_accum is 0x7, but there is no XSAVE area")


@case("tsc", "X86_TSC_INFO", "mode 3 is not one of (0, 1, 2)")
def tsc_mode_3(records: Records) -> None:
    change(records, rec.TscInfo, mode=3)
