"""Where a stream says that it comes from: what is right of it, and what is strange, depends on who wrote it."""

from __future__ import annotations

from pyxcsr.plain import NamedTuple

KNOWN_XEN = (4, 22)
"""The newest release whose parameters and save records are known here."""


class Origin(NamedTuple):
    """The version of the format, and the release of the saving Xen as the domain header has it."""

    version: int
    xen: tuple[int, int]

    @property
    def converted(self) -> bool:
        """True for what Xen's convert-legacy-stream has made of an image of Xen 4.5 or older."""
        return self.xen[0] == 0

    @property
    def newer(self) -> bool:
        """True if it is of a release that may write what is not known here."""
        return self.after(*KNOWN_XEN)

    def before(self, major: int, minor: int) -> bool:
        """True if it is of an older release; a converted stream is."""
        return self.xen < (major, minor)

    def after(self, major: int, minor: int) -> bool:
        """True if it is of a newer release."""
        return self.xen > (major, minor)
