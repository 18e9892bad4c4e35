"""What verify has to say about a stream, and the list of its rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RULES = {
    "truncated": "the stream goes on up to its END record",
    "record-limit": "no record is longer than 128 MiB",
    "padding": "padding after a body is zero",
    "after-end": "nothing follows END",
    "image-reserved": "reserved fields and option bits of the image header are zero",
    "domain-header": "the domain is x86 PV or x86 HVM, with pages of 4096 bytes",
    "domain-reserved": "the reserved field of the domain header is zero",
    "unknown-record": "every record type is one that version 2 or 3 defines",
    "forbidden-record": "no record that belongs to checkpointed streams or was withdrawn",
    "wrong-guest": "PV records only in PV streams, HVM records only in HVM streams",
    "wrong-version": "no version 3 record in a version 2 stream",
    "once": "records that describe the whole guest come once",
    "order": "static part, STATIC_DATA_END, p2m, pages, then the rest; a p2m frame list ahead of its pages",
    "missing-record": "every record that a receiver needs is there",
    "length": "a body is as long as its type and its counts say",
    "reserved": "reserved fields of bodies are zero",
    "empty-record": "records without content are left out",
    "pv-info": "guest width and levels are (8, 4) or (4, 3)",
    "p2m-frames": "P2M_FRAMES covers the p2m from pfn 0 on without a gap",
    "page-type": "page types are known",
    "page-type-guest": "page types are such as this kind of guest can have",
    "pfn-bound": "pfns are within the guest's p2m (PV) or address space (HVM)",
    "duplicate-pfn": "a pfn comes once in a PAGE_DATA record",
    "vcpu-id": "vcpu ids are such as Xen can have",
    "vcpu-duplicate": "a vcpu's record of one type comes once",
    "vcpu-size": "vcpu blobs have the size of what they hold",
    "vcpu-basic": "a vcpu of which there is anything has a BASIC record",
    "gdt": "a GDT has no entry in Xen's part",
    "tsc": "the TSC mode is one that Xen has",
    "xsave": "an XSAVE area is whole or, for a vcpu that has never used it, left out",
    "hvm-param": "an HVM parameter comes once, is one that can be set, and has a value that it can have",
    "hvm-context": "HVM_CONTEXT is a chain of save records from HEADER to END as Xen loads them",
    "hvm-page": "pages that HVM parameters and contexts name were last sent with data",
    "never-sent": "every pfn of a PV guest's p2m was sent at least once",
    "scattered": "pfns are not so far apart that nothing could keep track of them",
    "superpage": "no page table entry above level 1 maps a superpage",
    "table-bound": "page tables refer only to pfns that the p2m covers by then",
    "table-target": "page tables refer only to pfns that were last sent with data",
    "p2m-frame": "the frames of the p2m were last sent as ordinary pages with data",
    "cr3": "a vcpu's page table base is a table of the top level that was sent",
    "gdt-frame": "the frames of a GDT were last sent as ordinary pages with data",
    "shared-info": "shared_info has no fewer pfns than P2M_FRAMES covers",
    "start-info": "start_info was last sent as an ordinary page with data",
}
"""Name of a rule -> what it demands."""

CONTAINER_RULES = {
    "xl-mandatory-flags": "xl's mandatory flags are ones that xl knows",
    "xl-optional-flags": "xl's optional flags, of which none is defined, are zero",
    "xl-config": "an xl save file has a configuration: xl restore needs it",
    "xl-config-length": "the configuration's length fills xl's optional data",
    "xl-config-limit": "a configuration is not longer than 4 MiB",
    "xl-config-nul": "a configuration that is marked as JSON ends with its only NUL",
    "xl-config-json": "a configuration that is marked as JSON is an object as libxl writes it",
    "xl-config-guest": "the configuration is for a guest of the kind that the libxc stream holds",
    "libvirt-header": "the unused fields of libvirt's header are zero",
    "libvirt-xml": "libvirt's XML is there, ends with its only NUL, and is not longer than 4 MiB",
    "xenserver-part": "a part of a suspend image is of a type that is known, and has a length",
    "xenserver-libxc": "a suspend image has one libxc stream",
    "libxl-header": "xl's header is followed by a libxl stream of version 2, little-endian",
    "libxl-options": "reserved option bits of the libxl header are zero",
    "libxl-unknown-record": "every libxl record type is one that version 2 defines; libxl skips none",
    "libxl-checkpoint": "no record that belongs to checkpointed streams (Remus, COLO)",
    "libxl-length": "a libxl record is as long as its type says",
    "libxl-once": "libxl records come once",
    "libxl-order": "LIBXC_CONTEXT, then the emulator's xenstore data, then its context",
    "libxl-missing": "every libxl record that a receiver needs is there",
    "libxc-stream": "LIBXC_CONTEXT is followed by a libxc stream",
    "xl-config-memory": "the configuration's memory is not less than the pages that the libxc stream holds",
    "xl-config-vcpus": "the configuration has all vcpus of which the libxc stream has state",
    "emulator-guest": "emulator records only for guests that have an emulator: HVM, not PVH",
    "emulator-id": "the emulator is one that is known",
    "emulator-xenstore": "the emulator's xenstore data are pairs of a relative path and a value, each with its NUL",
}
"""The same for what libxl and xl put around a libxc stream; ``truncated``, ``padding``, ``after-end`` hold too."""

_KNOWN = RULES.keys() | CONTAINER_RULES.keys()


@dataclass(frozen=True)
class Complaint:
    """One breach of a rule. ``offset`` is that of the record's header; ``record`` is its name, if any."""

    offset: int
    record: str | None
    rule: str
    text: str

    def __str__(self) -> str:
        where = f"offset 0x{self.offset:x}"
        if self.record is not None:
            where += f" {self.record}"
        return f"{where}: {self.text} [{self.rule}]"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Complaints:
    """Collects complaints and notes, ``limit`` of each at most; ``dropped`` counts the complaints beyond.

    A note is worth knowing, but nothing that its writer or a receiver has wrong: it breaks no rule of the format, or
    only a rule that holds for today's savers and not for the one that the stream says it comes from.
    """

    def __init__(self, limit: int) -> None:
        self.kept: list[Complaint] = []
        self.dropped = 0
        self.notes: list[Complaint] = []
        self._limit = limit

    def add(self, rule: str, text: str, *, offset: int, record: str | None, note: bool = False) -> None:
        """Adds a breach of ``rule``, which must be one of RULES or CONTAINER_RULES; ``note``: only as a note."""
        if rule not in _KNOWN:
            raise KeyError(rule)
        into = self.notes if note else self.kept
        if len(into) < self._limit:
            into.append(Complaint(offset, record, rule, text))
        elif not note:
            self.dropped += 1
