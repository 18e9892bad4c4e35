"""Save files of other toolstacks: libvirt's driver for libxl, and XenServer's (XCP-ng's).

Sources: the structure that libvirt's libxl driver writes (src/libxl/libxl_conf.h), and xapi's description of its
suspend image (xenopsd, "Suspend image framing format", suspend_image.ml).

libvirt writes a header of 64 bytes, the guest's XML and, in version 2, a libxl stream. A suspend image is a signature
and parts: two numbers of 64 bits, type and length, and so many bytes. The libxc stream has no length: it follows its
part's header as it is, and behind its END comes the next header.
"""

from __future__ import annotations

import enum
import re
import struct
from typing import NamedTuple, NoReturn, Optional

from pyxcsr.container.reader import LIBVIRT_MAGIC, XENSERVER_MAGIC, ContainerReader
from pyxcsr.errors import NotAStream, StreamError

LIBVIRT_HEADER = struct.Struct("<16sII40s")  # magic, version, length of the XML, unused
LIBVIRT_VERSION = 2
LIBVIRT_HEADER_NAME, XML_NAME = "libvirt header", "libvirt XML"

XML_MAX = 4 << 20
"""Bytes of a guest's XML that are looked at."""

PART_HEADER = struct.Struct("<qq")
SIGNATURE_NAME = "XenServer signature"


class PartType(enum.IntEnum):
    """Types of parts of a suspend image."""

    XENOPS = 0x000F
    LIBXC = 0x00F0
    LIBXL = 0x00F1
    LIBXC_LEGACY = 0x00F2
    QEMU_TRAD = 0x0F00
    QEMU_XEN = 0x0F01
    DEMU = 0x0F10
    VARSTORED = 0x0F11
    SWTPM_0 = 0x0F12
    SWTPM = 0x0F13
    END_OF_IMAGE = 0xFFFF


_TYPES = {int(x): x for x in PartType}


class Libvirt(NamedTuple):
    """libvirt's header and XML. ``xml``: up to XML_MAX bytes of it, which are ``declared``."""

    version: int
    declared: int
    unused: bytes
    xml: bytes

    @property
    def name(self) -> Optional[str]:
        """The guest's name out of the XML, if it can be told and printed."""
        found = re.search(rb"<name>([^<&]{1,255})</name>", self.xml[:65536])
        name = found.group(1).decode("utf-8", "replace") if found else ""
        return name if name.isprintable() and name else None


class Part(NamedTuple):
    """The header of a part. ``length``: of its content; a libxc stream's is not known."""

    offset: int
    code: int
    length: int

    @property
    def name(self) -> str:
        """The type's name."""
        known = _TYPES.get(self.code)
        return f"XenServer {known.name if known is not None else f'unknown 0x{self.code & (1 << 64) - 1:x}'}"


class ForeignReader(ContainerReader):
    """Reads such files; raises as ContainerReader does."""

    def libvirt(self) -> Libvirt:
        """Header and XML, up to where the libxl stream begins. Raises NotAStream for a version without one."""
        offset = self.source.offset
        head = self._exactly(LIBVIRT_HEADER.size, offset, LIBVIRT_HEADER_NAME)
        magic, version, length, unused = LIBVIRT_HEADER.unpack(head)
        if magic != LIBVIRT_MAGIC:
            self._refuse("not a save file of libvirt's libxl driver", offset, LIBVIRT_HEADER_NAME)
        if version != LIBVIRT_VERSION:
            age = "with a legacy stream, of Xen 4.5 or older" if version < LIBVIRT_VERSION else "unknown here"
            self._refuse(f"a save file of libvirt's of version {version}, {age}", offset, LIBVIRT_HEADER_NAME)
        kept = min(length, XML_MAX)
        xml = self._exactly(kept, offset + LIBVIRT_HEADER.size, XML_NAME)
        self._skip(length - kept, offset + LIBVIRT_HEADER.size, XML_NAME)
        return Libvirt(version, length, unused, xml)

    def signature(self) -> None:
        """A suspend image's first bytes."""
        offset = self.source.offset
        if self._exactly(len(XENSERVER_MAGIC), offset, SIGNATURE_NAME) != XENSERVER_MAGIC:
            self._refuse("not a suspend image of XenServer's", offset, SIGNATURE_NAME)

    def part(self) -> Part:
        """The next part's header. Raises StreamError for one behind which nothing can be found."""
        offset = self.source.offset
        code, length = PART_HEADER.unpack(self._exactly(PART_HEADER.size, offset, "XenServer part"))
        part = Part(offset, code, length)
        if code not in _TYPES:
            self._wrong("no such part is defined, so that nothing behind it can be found", part)
        if code in (PartType.LIBXL, PartType.LIBXC_LEGACY):
            self._wrong("such a part is not read here" + _LEGACY.get(code, ""), part)
        if length < 0:
            self._wrong(f"it claims {length} bytes", part)
        return part

    def skip(self, part: Part) -> None:
        """A part's content, read and forgotten."""
        self._skip(part.length, part.offset, part.name)

    def libxc_part(self) -> Part:
        """Up to the libxc stream of a suspend image. Raises StreamError if it has none."""
        while True:
            part = self.part()
            if part.code == PartType.LIBXC:
                return part
            if part.code == PartType.END_OF_IMAGE:
                self._wrong("the suspend image ends without a libxc stream", part)
            self.skip(part)

    @staticmethod
    def _refuse(text: str, offset: int, record: str) -> NoReturn:
        raise NotAStream(text, offset=offset, record=record)

    @staticmethod
    def _wrong(text: str, part: Part) -> NoReturn:
        raise StreamError(f"{part.name}: {text}", offset=part.offset, record=part.name)


_LEGACY = {int(PartType.LIBXC_LEGACY): ": it is a legacy stream, of Xen 4.5 or older"}
