"""An HVM or PVH guest as the stub's own tables have it, against a stream's last word, and against a restored guest.

The stream is read here by code that nothing in pyxcsr shares, and fast: a guest of a few MiB has a million gfns.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any, NamedTuple, Union

from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.stream import hvm_params

HEADERS = 24 + 16  # of the image and of the domain
PAGE_DATA, END = 1, 0
PFN_BITS, XTAB = (1 << 52) - 1, 0xF
NO_DATA = XTAB << 60
PAGE = 4096
CONSOLE_RING = 3088  # bytes of the console's page that its rings take


class Wrong(NamedTuple):
    """Gfns of which the stream lacks the content that the guest has; and those that it has and the guest has not."""

    lost: list[int]
    given_back: list[int]

    def __str__(self) -> str:
        parts = [(self.lost, "lost"), (self.given_back, "given back, and there")]
        return "; ".join(f"{len(x)} {what}, the first {x[0]:#x}" for x, what in parts if x)


def final_pages(data: memoryview) -> dict[int, int]:
    """Gfn -> where in the stream the content stands that a receiver ends with."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    at = HEADERS
    while True:
        kind, length = struct.unpack_from("<II", data, at)
        at += 8
        if kind == PAGE_DATA:
            _take(data, at, length, found, seen)
        elif kind == END:
            return found
        at += length + -length % 8


def _take(data: memoryview, at: int, length: int, found: dict[int, int], seen: set[int]) -> None:
    """``seen``: in which stretches of 1024 gfns there has been content: a record of holes elsewhere says nothing."""
    (count,) = struct.unpack_from("<I", data, at)
    first, last = (struct.unpack_from("<Q", data, at + 8 + 8 * x)[0] & PFN_BITS for x in (0, count - 1))
    stretches = range(first >> 10, (last >> 10) + 1)
    if length == 8 + 8 * count and len(stretches) < 8 and seen.isdisjoint(stretches):
        return
    entries = struct.unpack_from(f"<{count}Q", data, at + 8)
    at += 8 + 8 * count
    for entry in entries:
        gfn = entry & PFN_BITS
        if entry >= NO_DATA:
            found.pop(gfn, None)
            continue
        assert entry >> 60 == 0, f"gfn {gfn:#x} is of type {entry >> 60:#x}"
        found[gfn] = at
        seen.add(gfn >> 10)
        at += PAGE


def wrong(guest: StubDomain, path: Union[str, Path]) -> Wrong:
    """What the stream's last word is not as the guest's memory is. The guest must be suspended still."""
    data = memoryview(Path(path).read_bytes())
    found, gfns = final_pages(data), guest.pfns_with_memory()
    lost = [x for x in gfns if x not in found or data[found[x] : found[x] + PAGE] != guest.read_page(x)]
    return Wrong(lost, sorted(found.keys() - set(gfns)))


Image = dict[str, Any]


def image_of(hv: StubBackend, domid: int) -> Image:
    """All that a restored guest must have again: pages as digests, params, context, TSC."""
    guest = hv.stub.guest(domid)
    params = {str(x): hv.hvm_param(domid, x) for x in hvm_params.SENT}
    tsc = hv.domain_tsc(domid)
    pages = {str(x): hashlib.blake2b(guest.read_page(x), digest_size=12).hexdigest() for x in guest.pfns_with_memory()}
    return {
        "pages": pages,
        "params": params,
        "events": [hv.hvm_param(domid, x) for x in (hvm_params.STORE_EVTCHN, hvm_params.CONSOLE_EVTCHN)],
        "context": hv.hvm_context(domid).hex(),
        "tsc": [tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation],
        "rings": _rings(guest, params),
    }


def _rings(guest: StubDomain, params: dict[str, int]) -> dict[str, bool]:
    """Gfn -> whether it is empty, of the pages that a restorer clears."""
    empty = {}
    for index in sorted({*hvm_params.CLEARED, hvm_params.CONSOLE_PFN}):
        gfn = params[str(index)]
        if gfn:
            size = CONSOLE_RING if index == hvm_params.CONSOLE_PFN else PAGE
            empty[str(gfn)] = not any(guest.read_page(gfn)[:size])
    return empty


def differences(saved: Image, restored: Image) -> tuple[list[str], list[int]]:
    """(What of a restored guest is not as it was when it was saved, gfns that it has and had not)."""
    rings = saved["rings"].keys()
    before, after = saved["pages"], restored["pages"]
    missing = sorted(int(x) for x in before if x not in rings and after.get(x) != before[x])
    found = [f"gfn {x:#x} is not as it was" for x in missing]
    found += [f"{name}: {saved[name]} became {restored[name]}" for name in ("params",) if saved[name] != restored[name]]
    found += ["the context differs"] if saved["context"] != restored["context"] else []
    expected = [*saved["tsc"][:3], saved["tsc"][3] + 1]  # Xen counts the incarnation
    found += [] if restored["tsc"] == expected else [f"TSC: {expected} expected, {restored['tsc']} found"]
    found += [] if restored["events"] == [1, 2] else [f"event channels {restored['events']}"]
    found += [f"the ring at {int(x):#x} was not cleared" for x, empty in restored["rings"].items() if not empty]
    return found, sorted(int(x) for x in after if x not in before)
