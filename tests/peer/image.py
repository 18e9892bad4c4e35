"""A guest's image as the stub's own tables have it, free of machine frame numbers: comparable across machines.

Contents are kept as digests, so an image is small enough to pass between processes as JSON.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Optional

from pyxcsr.hypervisor.open import StubBackend

CR3, CR1, RDX, GDT0 = 4984 + 24, 4984 + 8, 616, 4832
GDT_ENTS = GDT0 + 16 * 8
FRAMES_AT_ONCE = 1024
INVALID = (1 << 64) - 1

Image = dict[str, Any]


def digest(data: bytes) -> str:
    """Short, and different for pages that differ."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


class _Truth:
    def __init__(self, hv: StubBackend, domid: int) -> None:
        self.hv, self.domid = hv, domid
        self.guest = hv.stub.guest(domid)
        self.pfns = self.guest.pfns_with_memory()
        self.online = [v for v in range(hv.domain_info(domid).max_vcpu_id + 1) if hv.vcpu_online(domid, v)]

    def pfn(self, mfn: int) -> Optional[int]:
        """The guest's own pfn of a frame; None for any other number."""
        if mfn >= self.hv.stub.max_page:
            return None
        owner, pfn, _ = self.hv.stub.frame(mfn)
        return pfn if owner == self.domid else None

    def pages(self) -> dict[str, list[Any]]:
        """pfn -> [type, digest]; page tables by pfns."""
        found: dict[str, list[Any]] = {}
        for at in range(0, len(self.pfns), FRAMES_AT_ONCE):
            part = self.pfns[at : at + FRAMES_AT_ONCE]
            contents = zip(part, self.guest.types(part), self.guest.expected_pages(part))
            found.update({str(pfn): [kind.name, digest(page)] for pfn, kind, page in contents})
        return found

    def _by_pfn(self, mfn: int) -> int:
        pfn = self.pfn(mfn)
        return INVALID if pfn is None else pfn

    def vcpu(self, vcpu: int) -> dict[str, Any]:
        """The vcpu's records, frame numbers expressed in pfns."""
        hv, blob = self.hv, bytearray(self.hv.vcpu_basic(self.domid, vcpu))
        (entries,) = struct.unpack_from("<Q", blob, GDT_ENTS)
        frames = [GDT0 + 8 * i for i in range((entries + 511) // 512)]
        for at in frames + ([RDX] if vcpu == 0 else []):
            self._replace(blob, at, 0)
        self._replace(blob, CR3, 12)
        if struct.unpack_from("<Q", blob, CR1)[0]:
            self._replace(blob, CR1, 12)
        return {
            "basic": bytes(blob).hex(),
            "extended": hv.vcpu_extended(self.domid, vcpu).hex(),
            "xsave": hv.vcpu_xsave(self.domid, vcpu).hex(),
            "msrs": hv.vcpu_msrs(self.domid, vcpu).hex(),
        }

    def _replace(self, blob: bytearray, at: int, shift: int) -> None:
        """cr3-like values keep their low bits, as Xen has them."""
        (value,) = struct.unpack_from("<Q", blob, at)
        low = value & ((1 << shift) - 1)
        struct.pack_into("<Q", blob, at, (self._by_pfn(value >> shift) << shift | low) & INVALID)

    def start_info_pfn(self) -> Optional[int]:
        """vcpu 0's rdx names it while the guest is suspended, and before it first runs."""
        (mfn,) = struct.unpack_from("<Q", self.hv.vcpu_basic(self.domid, 0), RDX)
        return self.pfn(mfn)

    def p2m(self, leaves: list[int]) -> str:
        """Digest of the p2m list's pages in its order, each entry by pfn."""
        state = hashlib.blake2b(digest_size=12)
        entries: dict[int, bytes] = {}
        for leaf in leaves:
            if leaf not in entries:
                raw = struct.unpack("<512Q", self.guest.read_page(leaf))
                entries[leaf] = struct.pack("<512Q", *(self._by_pfn(x) for x in raw))
            state.update(entries[leaf])
        return state.hexdigest()


def image_of(hv: StubBackend, domid: int, leaves: Optional[list[int]] = None) -> Image:
    """The image of a suspended or restored guest. ``leaves``: the pfns of its p2m list's pages."""
    truth = _Truth(hv, domid)
    pages = truth.pages()
    leaves = truth.guest.leaf_pfns() if leaves is None else leaves
    start_info = truth.start_info_pfn()
    tsc = hv.domain_tsc(domid)
    info = hv.domain_info(domid)
    return {
        "nr_pfns": truth.guest.nr_pfns,
        "pages": pages,
        "leaves": leaves,
        "p2m": truth.p2m(leaves),
        "start_info_pfn": start_info,
        "start_info": None if start_info is None else truth.guest.read_page(start_info).hex(),
        "vcpus": {str(v): truth.vcpu(v) for v in truth.online},
        "tsc": [tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation],
        "shared_info": hv.read_frames(domid, [info.shared_info_mfn]).hex(),
        "policy": [x.hex() for x in hv.cpu_policy(domid)],
    }


# -- comparing

SHARED_ARCH = 3088
UPCALL_SELECTORS = [64 * vcpu + 8 for vcpu in range(32)]
FRAME_FIELDS = [SHARED_ARCH + offset for offset in (8, 24, 32, 40)]  # what is said of the old p2m: where, generation
PENDING, MASK, WALLCLOCK = slice(2048, 2560), slice(2560, 3072), slice(3072, SHARED_ARCH)
START_INFO = struct.Struct("<32sQQIxxxxQIxxxxQI")  # magic to console.domU.evtchn


def differences(saved: Image, restored: Image) -> list[str]:
    """What of a restored guest is not as it was when it was saved; nothing if all is."""
    return [
        *_page_differences(saved, restored),
        *(f"{name} differs" for name in ("p2m", "vcpus", "start_info_pfn") if saved[name] != restored[name]),
        *_tsc_differences(saved["tsc"], restored["tsc"]),
        *_shared_info_differences(bytes.fromhex(saved["shared_info"]), bytes.fromhex(restored["shared_info"])),
        *_start_info_differences(bytes.fromhex(saved["start_info"]), bytes.fromhex(restored["start_info"])),
    ]


def _page_differences(saved: Image, restored: Image) -> list[str]:
    """The p2m's own pages are compared by pfn elsewhere; start_info is the restorer's to change."""
    other = {str(x) for x in saved["leaves"]} | {str(saved["start_info_pfn"])}
    pfns = sorted(set(saved["pages"]) | set(restored["pages"]), key=int)
    found = []
    for pfn in pfns:
        before, after = saved["pages"].get(pfn), restored["pages"].get(pfn)
        if before != after and (pfn not in other or before is None or after is None or before[0] != after[0]):
            found.append(f"pfn {int(pfn):#x} was {before}, is {after}")
    return found


def _tsc_differences(saved: list[int], restored: list[int]) -> list[str]:
    """Xen counts the incarnation."""
    expected = [*saved[:3], saved[3] + 1]
    return [] if restored == expected else [f"TSC: {expected} expected, {restored} found"]


def _comparable(page: bytes) -> bytes:
    """What a restorer keeps of shared_info: vcpu_info but its selector, and arch but what names frames."""
    mine = bytearray(page)
    for at in UPCALL_SELECTORS:
        mine[at : at + 8] = bytes(8)
    for part in (PENDING, MASK, WALLCLOCK):
        mine[part] = bytes(part.stop - part.start)
    for at in FRAME_FIELDS:
        mine[at : at + 8] = bytes(8)
    return bytes(mine)


def _shared_info_differences(saved: bytes, restored: bytes) -> list[str]:
    found = []
    if _comparable(saved) != _comparable(restored):
        found.append("shared_info differs")
    for at in FRAME_FIELDS:
        if restored[at : at + 8] not in (saved[at : at + 8], bytes(8)):
            found.append(f"shared_info at {at:#x} is neither as it was nor 0")
    if any(restored[PENDING]) or restored[MASK] != b"\xff" * 512:
        found.append("event channels are not as in a new domain")
    return found


def _start_info_differences(saved: bytes, restored: bytes) -> list[str]:
    """The restorer sets nr_pages to store_evtchn anew; magic and what follows stay."""
    before, after = START_INFO.unpack_from(saved), START_INFO.unpack_from(restored)
    rest = START_INFO.size
    found = [] if before[0] == after[0] and saved[rest:] == restored[rest:] else ["start_info differs"]
    if (after[5], after[7]) != (1, 2):
        found.append(f"start_info: event channels {after[5]} and {after[7]}, not 1 and 2")
    return found
