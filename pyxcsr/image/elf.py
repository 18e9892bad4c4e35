"""Xen's dump-core format: an ELF file of sections, which crash, gdb and Volatility read.

Source: docs/misc/dump-core-format in Xen's tree; the notes' numbers are in xen/include/public/elfnote.h. The string
table has the sections' names in the sections' order, because there are readers that count on it, and pages stand in
the order of their pfns, for the same reason.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pyxcsr.frames import PAGE_SIZE

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian, System V
ET_CORE, EM_X86_64 = 4, 62
SHT_NULL, SHT_PROGBITS, SHT_STRTAB, SHT_NOTE = 0, 1, 3, 7

NOTE = struct.Struct("<III4s")  # length of the name, of the descriptor, type, name
NOTE_NONE, NOTE_HEADER, NOTE_XEN_VERSION, NOTE_FORMAT = 0x200_0000, 0x200_0001, 0x200_0002, 0x200_0003
HEADER = struct.Struct("<QQQQ")  # magic, vcpus, pages, page size
MAGIC_PV, MAGIC_HVM = 0xF00F_EBED, 0xF00F_EBEE
# major, minor, extra version, compiler, built by, where, when, capabilities, changeset, virt_start, page size
XEN_VERSION = struct.Struct("<QQ16s64s16s32s32s1024s64sQQ")
FORMAT_VERSION = 0 << 32 | 1

CONTEXT_SIZE = 5168
P2M_ENTRY = struct.Struct("<QQ")


class Section(NamedTuple):
    """A section: its name, its type, its length and alignment, and the size of what it is an array of."""

    name: str
    type: int
    size: int
    align: int
    entry: int


class Layout:
    """Where everything stands in a dump of ``nr_pages`` pages.

    ``head``: the headers and the notes, at the file's beginning. ``contexts``, ``shared_info``, ``pages``, ``table``:
    where the vcpus' contexts, of CONTEXT_SIZE each, shared_info, the pages and the table of their frame numbers begin;
    ``names``: where the string table does, which ends the file.
    """

    def __init__(self, *, pv: bool, nr_pages: int, nr_vcpus: int, shared_info: bool, notes: bytes) -> None:
        self.strings = b""
        shared = [Section(".xen_shared_info", SHT_PROGBITS, PAGE_SIZE, 8, PAGE_SIZE)] if shared_info else []
        entry = P2M_ENTRY.size if pv else 8
        sections = [
            Section(".shstrtab", SHT_STRTAB, 0, 1, 0),
            Section(".note.Xen", SHT_NOTE, len(notes), 4, 0),
            Section(".xen_prstatus", SHT_PROGBITS, CONTEXT_SIZE * nr_vcpus, 8, CONTEXT_SIZE),
            *shared,
            Section(".xen_pages", SHT_PROGBITS, PAGE_SIZE * nr_pages, PAGE_SIZE, PAGE_SIZE),
            Section(".xen_p2m" if pv else ".xen_pfn", SHT_PROGBITS, entry * nr_pages, 8, entry),
        ]
        self._place(sections)
        self.head = self._header(len(sections) + 1) + self._headers(sections) + notes

    def _place(self, sections: list[Section]) -> None:
        at = EHDR.size + SHDR.size * (len(sections) + 1)
        self.offsets: list[int] = []
        for section in sections:
            at = -(-at // section.align) * section.align
            self.offsets.append(at)
            at += section.size
        self.contexts, self.shared_info = self.offsets[2:4]
        self.pages, self.table = self.offsets[-2:]
        self.names = self.offsets[0] = at
        self.strings = b"\0" + b"".join(x.name.encode() + b"\0" for x in sections)

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return self.names + len(self.strings)

    @staticmethod
    def _header(nr_sections: int) -> bytes:
        sizes = EHDR.size, 0, 0, SHDR.size, nr_sections, 1
        return EHDR.pack(IDENT, ET_CORE, EM_X86_64, 1, 0, 0, EHDR.size, 0, *sizes)

    def _headers(self, sections: list[Section]) -> bytes:
        out, name = bytes(SHDR.size), 1
        for section, at in zip(sections, self.offsets):
            size = len(self.strings) if section.type == SHT_STRTAB else section.size
            out += SHDR.pack(name, section.type, 0, 0, at, size, 0, 0, section.align, section.entry)
            name += len(section.name) + 1
        return out


def note(kind: int, descriptor: bytes = b"") -> bytes:
    """One note of Xen's."""
    return NOTE.pack(4, len(descriptor), kind, b"Xen\0") + descriptor


def notes(*, pv: bool, nr_vcpus: int, nr_pages: int, xen: tuple[int, int]) -> bytes:
    """The notes of a dump. Of the saver's Xen a stream tells the release alone; the other fields are empty."""
    version = XEN_VERSION.pack(*xen, *([b""] * 7), 0, PAGE_SIZE)
    return (
        note(NOTE_NONE)
        + note(NOTE_HEADER, HEADER.pack(MAGIC_PV if pv else MAGIC_HVM, nr_vcpus, nr_pages, PAGE_SIZE))
        + note(NOTE_XEN_VERSION, version)
        + note(NOTE_FORMAT, struct.pack("<Q", FORMAT_VERSION))
    )
