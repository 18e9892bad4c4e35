"""A walk to a p2m that changes meanwhile is made again: how often, how long, and when its error is believed."""

from __future__ import annotations

import time

from pyxcsr.errors import P2mChanged
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional

    from pyxcsr.errors import P2mError

ATTEMPTS = 16
"""How often to walk to the p2m at least, if the guest changes its structure during each walk."""

LEAST = 3
"""How often an error must be found at least before it is believed; and how often to walk, however long that takes."""

FAR_LONGER = 10
"""Times a change's seconds, after which fewer attempts will do: where one walk takes long."""

SHORTEST, LONGEST = 0.0005, 0.02
"""Seconds from one attempt to the next: the first, and the most."""


class Attempts:
    """Those of one look. ``seconds``: how long a guest may take for a change. ``first``: nothing has been mapped
    before, so that the save cannot go on without it, and the whole time is used.
    """

    def __init__(self, seconds: float, first: bool) -> None:
        self._seconds, self._first = seconds, first
        self._began = self._since = time.monotonic()
        self._last: Optional[tuple[object, str]] = None
        self._alike = self._different = 0
        self.count = 0
        """How many have failed."""

    def failed(self, error: P2mError, seen: object) -> None:
        """One has failed. ``seen``: what else tells whether anything has changed since the one before."""
        found = seen, str(error)
        self.count += 1
        self._alike += 1
        if found != self._last or isinstance(error, P2mChanged):
            self._since = self._began if self._last is None else time.monotonic()
            self._last, self._alike = found, 1
            self._different += 1

    @property
    def lasts(self) -> bool:
        """Whether the last error has been the same for as long as a change may take: then it is no change's."""
        return self._alike >= LEAST and time.monotonic() - self._since >= self._seconds

    @property
    def over(self) -> bool:
        """Whether the guest has changed its p2m for too long, or, if an earlier one is mapped, too often."""
        seconds = time.monotonic() - self._began
        if self.count >= LEAST and seconds >= FAR_LONGER * max(self._seconds, 1.0):
            return True
        if self._first:
            return self.count >= ATTEMPTS and seconds >= self._seconds
        return self._different >= ATTEMPTS or (self.count >= ATTEMPTS and seconds >= self._seconds)

    def wait(self) -> None:
        """Leaves the guest a moment to go on."""
        time.sleep(min(SHORTEST * 2 ** min(self.count, 10), LONGEST))
