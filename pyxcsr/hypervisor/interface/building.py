"""Building a domain from a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Optional

    from pyxcsr.hypervisor.interface.results import PageResult
    from pyxcsr.hypervisor.interface.streams import Again, SourceHandle


class RestoreHandle(Protocol):
    """A domain being built: its new p2m, its page types, and what has been sent."""

    def grow(self, nr_pfns: int) -> None:
        """The p2m has so many pfns now, if it had fewer. Raises StreamError beyond the domain's limit."""

    def compare(self, on: bool) -> None:
        """From here on pages are compared with the guest's, not written."""

    def pages(self, source: SourceHandle, length: int, again: Again, offset: int) -> PageResult:
        """Takes a PAGE_DATA record's body from the source, straight into the guest. ``offset``: the record's."""

    @property
    def nr_seen(self) -> int:
        """One past the last pfn that had an entry; with a p2m: how many pfns it has."""

    def mfn(self, pfn: int) -> Optional[int]:
        """The frame of a pfn (the pfn itself where pfn == gfn), or None without memory."""

    def type(self, pfn: int) -> int:
        """The type a pfn was sent with last (values of PageType); XTAB if never."""

    def has_data(self, pfn: int) -> bool:
        """Whether a pfn's last entry had content."""

    def check_tables(self, offset: int) -> None:
        """Raises IncompleteStream if a page table refers to memory that the stream did not contain.

        A page that is BROKEN counts as contained if it is named as an ordinary one.
        """

    def clear_broken(self) -> tuple[int, int]:
        """Fills the pages with zeroes that a PV guest has, but not their content; returns how many, and the first."""

    def context(self, vcpu: int, context: bytes, offset: int) -> bytes:
        """A PV vcpu's context (vcpu_guest_context, x86_64) with frames instead of pfns, and online.

        ``offset``: for messages. Raises IncompleteStream (pfn, field) where it names a pfn that the stream did not
        contain, StreamError (field, and pfn with type, or value) where it names a page of the wrong type, or too many.
        """

    def cut(self, nr_pfns: int) -> None:
        """The guest has so many pfns and no more: what was sent of others counts as gone."""

    def give_back(self) -> int:
        """Takes the memory of pfns that the stream sent and later said to be gone; returns how many pages.

        Only once :meth:`check_tables` has passed: nothing refers to them then.
        """

    def give_unnamed(self) -> int:
        """The same of a PV guest at a checkpoint, when its page tables are not checked: what one names is kept."""

    def make_room(self, pages: Iterable[Sequence[int]]) -> int:
        """Takes the memory of pfns that will be gone by the last word on them; returns how many pages. What a page
        table names is kept, unless that table is one of those that will be put in.

        ``pages``: the entries that will be put in, those of each PAGE_DATA record of a checkpoint, as arrays of 64-bit
        words.
        """

    def pin(self) -> int:
        """Pins the page tables that were pinned; returns how many."""

    def write_p2m(self, leaf_pfns: Sequence[int]) -> None:
        """Writes the new p2m into the guest's own list."""

    def close(self) -> None:
        """Unmaps, frees; harmless when done before."""


class Building(Protocol):
    """Restores, and what a restored domain needs besides its memory."""

    def new_restore(self, domid: int, limit: int, width: int = 8) -> RestoreHandle:
        """What a restore needs. ``limit``: pfns that the domain may ever have. ``width``: bytes in a word of a PV
        guest's; 0 for HVM, where pfn == gfn."""

    def seed_grants(
        self, domid: int, console_mfn: int, store_mfn: int, console_domid: int, store_domid: int, hvm: bool = False
    ) -> None:
        """Grants console and store rings to their backends. ``hvm``: the rings are given as gfns."""
