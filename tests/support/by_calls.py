"""Saves that go by the calls that they make, and not by the clock.

A guest of the stub acts at each call of Xen's. So two saves of one can be compared only if they make the same calls,
and they do only if none of these depends on how long anything took: a machine that is busy takes longer.
"""

from __future__ import annotations

import pytest

ENDLESS = 10**9


def go_by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rest of the test."""
    monkeypatch.setattr("pyxcsr.hypervisor.saving.BATCHES_US", ENDLESS)  # Python looks at nothing between two batches
    monkeypatch.setattr("pyxcsr.guest.hvm.following.WATCH", ENDLESS)  # its pages are not counted in between
    monkeypatch.setattr("pyxcsr.guest.hvm.following.UNWATCHED", ENDLESS)  # nor looked for because that took long
    monkeypatch.setattr("pyxcsr.transfer.outlook.SHORT", ENDLESS)  # a rehearsal reads the bitmap whatever it took
    # how many pages it tries goes by how many the guest dirties in a second
    monkeypatch.setattr("pyxcsr.transfer.outlook.Outlook.pages_to_try", lambda one, nr_pfns: 0)
