"""A guest's image as the stub's own tables have it, free of machine frame numbers: comparable across machines.

Contents are kept as digests, so an image is small enough to pass between processes as JSON.
"""

from __future__ import annotations

import hashlib
from typing import Any, Optional

from support.widths import WIDTHS, Width, width_of

from pyxcsr.hypervisor.open import StubBackend

FRAMES_AT_ONCE = 1024

Image = dict[str, Any]


def digest(data: bytes) -> str:
    """Short, and different for pages that differ."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


class _Truth:
    def __init__(self, hv: StubBackend, domid: int) -> None:
        self.hv, self.domid = hv, domid
        self.guest = hv.stub.guest(domid)
        self.width = width_of(hv, domid)
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
        return self.width.none if pfn is None else pfn

    def vcpu(self, vcpu: int) -> dict[str, Any]:
        """The vcpu's records, frame numbers expressed in pfns."""
        hv, w = self.hv, self.width
        blob = bytearray(hv.vcpu_basic(self.domid, vcpu)[: w.context])
        entries = w.word(blob, w.gdt + 16 * w.nr_bytes)
        for at in [w.gdt + w.nr_bytes * i for i in range((entries + 511) // 512)] + ([w.rdx] if vcpu == 0 else []):
            w.put(blob, at, self._by_pfn(w.word(blob, at)))
        self._replace_root(blob, 3)
        if w.nr_bytes == 8 and w.word(blob, w.cr + 8):
            self._replace_root(blob, 1)
        return {
            "basic": bytes(blob).hex(),
            "extended": hv.vcpu_extended(self.domid, vcpu).hex(),
            "xsave": hv.vcpu_xsave(self.domid, vcpu).hex(),
            "msrs": hv.vcpu_msrs(self.domid, vcpu).hex(),
        }

    def _replace_root(self, blob: bytearray, register: int) -> None:
        """A 64-bit cr1 keeps its low bits, as Xen has them; a 32-bit cr3 has frame bits there."""
        w, at = self.width, self.width.cr + register * self.width.nr_bytes
        value = w.word(blob, at)
        low = value & 0xFFF if w.nr_bytes == 8 else 0
        w.put(blob, at, (w.cr3(self._by_pfn(w.cr3_frame(value))) | low) & w.none)

    def start_info_pfn(self) -> Optional[int]:
        """vcpu 0's rdx names it while the guest is suspended, and before it first runs."""
        return self.pfn(self.width.word(self.hv.vcpu_basic(self.domid, 0), self.width.rdx))

    def p2m(self, leaves: list[int]) -> str:
        """Digest of the p2m list's pages in its order, each entry by pfn."""
        state = hashlib.blake2b(digest_size=12)
        entries: dict[int, bytes] = {}
        for leaf in leaves:
            if leaf not in entries:
                raw = self.width.words(self.guest.read_page(leaf))
                entries[leaf] = self.width.page(self._by_pfn(x) for x in raw)
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
        "width": truth.width.nr_bytes,
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

FRAME_FIELDS = (1, 3, 4, 5)
"""What arch_shared_info says of the old p2m: where it is, and its generation."""


def differences(saved: Image, restored: Image) -> list[str]:
    """What of a restored guest is not as it was when it was saved; nothing if all is."""
    if saved["width"] != restored["width"]:
        return [f"it had words of {saved['width']} bytes, and has words of {restored['width']}"]
    w = WIDTHS[saved["width"]]
    return [
        *_page_differences(saved, restored),
        *(f"{name} differs" for name in ("p2m", "vcpus", "start_info_pfn") if saved[name] != restored[name]),
        *_tsc_differences(saved["tsc"], restored["tsc"]),
        *_shared_info_differences(w, bytes.fromhex(saved["shared_info"]), bytes.fromhex(restored["shared_info"])),
        *_start_info_differences(w, bytes.fromhex(saved["start_info"]), bytes.fromhex(restored["start_info"])),
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


def kept_of_shared_info(w: Width, page: bytes) -> bytes:
    """What a restorer keeps of shared_info: vcpu_info but its selector, and arch but what names frames."""
    mine = bytearray(page)
    for vcpu in range(32):
        w.put(mine, 64 * vcpu + w.selector, 0)
    mine[w.pending : w.arch] = bytes(w.arch - w.pending)  # event channels, and Xen's wallclock
    for field in FRAME_FIELDS:
        w.put(mine, w.arch + field * w.nr_bytes, 0)
    if w.nr_bytes == 4:
        w.put(mine, w.arch + 6 * w.nr_bytes, 0)  # the wallclock's high word
    return bytes(mine)


def _shared_info_differences(w: Width, saved: bytes, restored: bytes) -> list[str]:
    found = []
    if kept_of_shared_info(w, saved) != kept_of_shared_info(w, restored):
        found.append("shared_info differs")
    for field in FRAME_FIELDS:
        at = w.arch + field * w.nr_bytes
        if w.word(restored, at) not in (w.word(saved, at), 0):
            found.append(f"shared_info at {at:#x} is neither as it was nor 0")
    mask = w.pending + w.nr_events
    if any(restored[w.pending : mask]) or restored[mask : mask + w.nr_events] != b"\xff" * w.nr_events:
        found.append("event channels are not as in a new domain")
    return found


def _start_info_differences(w: Width, saved: bytes, restored: bytes) -> list[str]:
    """The restorer sets nr_pages to store_evtchn anew; magic and what follows stay."""
    before, after = w.start_info.unpack_from(saved), w.start_info.unpack_from(restored)
    rest = w.start_info.size
    found = [] if before[0] == after[0] and saved[rest:] == restored[rest:] else ["start_info differs"]
    if (after[5], after[7]) != (1, 2):
        found.append(f"start_info: event channels {after[5]} and {after[7]}, not 1 and 2")
    return found
