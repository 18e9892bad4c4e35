"""Weights and caps, as Xen's schedulers take and refuse them."""

from __future__ import annotations

import errno

import pytest

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.stub.domain import StubDomain

from .conftest import Probe

pytestmark = pytest.mark.toolchain

CREDIT, CREDIT2, NULL = 5, 6, 9
UNCHANGED_CAP = 0xFFFF


class Of:
    """One scheduler's calls on one guest. ``generation``: "" or "2"."""

    def __init__(self, probe: Probe, guest: StubDomain, generation: str) -> None:
        self._probe, self._domid = probe, guest.domid
        self._kind = f"struct xen_domctl_sched_credit{generation} *"
        self._get = getattr(probe.lib, f"xc_sched_credit{generation}_domain_get")
        self._set = getattr(probe.lib, f"xc_sched_credit{generation}_domain_set")

    def set(self, weight: int, cap: int) -> int:
        return int(self._set(self._probe.xch, self._domid, self._probe.ffi.new(self._kind, [weight, cap])))

    def get(self) -> tuple[int, int]:
        out = self._probe.ffi.new(self._kind)
        assert self._get(self._probe.xch, self._domid, out) == 0
        return int(out.weight), int(out.cap)


def test_credit2(probe: Probe) -> None:
    guest = probe.guest(vcpus=2)
    mine, other = Of(probe, guest, "2"), Of(probe, guest, "")
    assert mine.get() == (256, 0)
    assert mine.set(512, 150) == 0 and mine.get() == (512, 150)
    assert mine.set(0, 0) == 0 and mine.get() == (512, 0)  # a weight of 0 changes nothing, a cap of 0 ends the cap
    assert (mine.set(0, 201), probe.errno) == (-1, errno.EINVAL)  # more than its two vcpus can use
    assert (other.set(0, 10), probe.errno) == (-1, errno.EINVAL)
    assert mine.get() == (512, 0)


def test_credit(probe: Probe) -> None:
    probe.stub.reset(scheduler="credit")
    guest = probe.guest(vcpus=1)
    mine, other = Of(probe, guest, ""), Of(probe, guest, "2")
    assert mine.set(0, 700) == 0 and mine.get() == (256, 700)  # credit does not compare it with the vcpus
    assert mine.set(99, UNCHANGED_CAP) == 0 and mine.get() == (99, 700)
    assert (other.set(0, 10), probe.errno) == (-1, errno.EINVAL)


def test_which_the_host_has(probe: Probe) -> None:
    """A domain in another cpupool has another one, which only its own calls tell."""
    number = probe.ffi.new("int *")
    for name, expected in (("credit", CREDIT), ("credit2", CREDIT2), ("null", NULL)):
        probe.stub.reset(scheduler=name)
        assert probe.lib.xc_sched_id(probe.xch, number) == 0 and number[0] == expected
    guest = probe.guest()
    assert (Of(probe, guest, "2").set(0, 10), probe.errno) == (-1, errno.EINVAL)
    guest.poke_domain("scheduler", CREDIT2)
    assert Of(probe, guest, "2").set(0, 10) == 0
    with pytest.raises(UsageError, match="credit2"):
        probe.stub.reset(scheduler="fair")


def test_no_such_domain(probe: Probe) -> None:
    gone = StubDomain(probe.ffi, probe.lib, 77)
    for generation in ("", "2"):
        assert (Of(probe, gone, generation).set(0, 10), probe.errno) == (-1, errno.ESRCH)


def test_a_cap_slows_the_guest_down(probe: Probe) -> None:
    guest = probe.guest(mem="4M", vcpus=2, writes=100, writer="calls")
    for cap, expected in ((0, 1000), (200, 1000), (100, 500), (1, 10)):
        assert Of(probe, guest, "2").set(0, cap) == 0
        before = guest.state().writes
        guest.tick(10)
        assert guest.state().writes - before == expected
