"""Xenstore, as far as saving and restoring need it."""

from __future__ import annotations

from typing import Optional, Protocol


class Xenstore(Protocol):
    """Nodes of xenstore, by path."""

    def xenstore_read(self, path: str) -> Optional[bytes]:
        """A node's value, or None if there is no such node."""

    def xenstore_directory(self, path: str) -> list[str]:
        """The names of a node's children; none if there is no such node."""

    def xenstore_write(self, path: str, value: bytes) -> None:
        """Writes a node."""

    def xenstore_compare_and_write(self, path: str, expected: bytes, new: bytes) -> bool:
        """Writes a node if it holds ``expected``, in one transaction; tells whether it did."""
