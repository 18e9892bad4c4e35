"""Rules on what libvirt and XenServer put around a stream."""

from __future__ import annotations

from typing import Optional

from pyxcsr.container.foreign import LIBVIRT_HEADER, LIBVIRT_HEADER_NAME, XML_MAX, XML_NAME, Libvirt, Part
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.verify import VerifyReport


def check_libvirt(head: Libvirt, complaints: Complaints) -> None:
    """Header and XML of libvirt's file."""
    if any(head.unused):
        text = "unused fields of the header are not zero"
        complaints.add("libvirt-header", text, offset=0, record=LIBVIRT_HEADER_NAME)
    problem = _why_no_xml(head)
    if problem is not None:
        complaints.add("libvirt-xml", problem, offset=LIBVIRT_HEADER.size, record=XML_NAME)


def _why_no_xml(head: Libvirt) -> Optional[str]:
    if not head.declared:
        return "there is no XML: libvirt refuses the file"
    if head.declared > XML_MAX:
        return f"{head.declared} bytes, more than {XML_MAX}: not looked at"
    nul = head.xml.find(b"\0")
    if nul != len(head.xml) - 1:
        return "no NUL at the end" if nul < 0 else f"a NUL at byte {nul} of {len(head.xml)}"
    return None


def check_end(end: Part, stream: Optional[VerifyReport], complaints: Complaints) -> None:
    """At the end of a suspend image: has there been a libxc stream?"""
    if stream is None:
        text = "the suspend image ends without a libxc stream"
        complaints.add("xenserver-libxc", text, offset=end.offset, record=end.name)


def refuse_second(part: Part, complaints: Complaints) -> None:
    """A second libxc stream."""
    complaints.add("xenserver-libxc", "a second libxc stream", offset=part.offset, record=part.name)
