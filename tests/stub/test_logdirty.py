"""Log-dirty mode against a model, and against what really changed in a running guest's memory."""

from __future__ import annotations

import errno
import random

import pytest

from pyxcsr.frames import PageType
from pyxcsr.hypervisor.stub.domain import StubDomain

from .conftest import Probe

pytestmark = pytest.mark.toolchain

OFF, ENABLE_LOGDIRTY, CLEAN, PEEK, ENABLE = 0, 2, 11, 12, 32
FINAL, MODE_LOG_DIRTY = 1, 4


class Log:
    """A hypercall buffer and what is read with it."""

    def __init__(self, probe: Probe, domid: int, nr_pfns: int) -> None:
        self.probe, self.domid, self.nr_pfns = probe, domid, nr_pfns
        self.buffer = probe.ffi.new("xc_hypercall_buffer_t *")
        self.pages = (nr_pfns >> 15) + 2
        self.memory = probe.lib.xc__hypercall_buffer_alloc_pages(probe.xch, self.buffer, self.pages)
        self.stats = probe.ffi.new("xc_shadow_op_stats_t *")

    def control(self, op: int, mode: int = 0) -> int:
        lib, xch, null = self.probe.lib, self.probe.xch, self.probe.ffi.NULL
        return int(lib.xc_shadow_control(xch, self.domid, op, null, mode))

    def call(self, op: int, pages: int, mode: int = 0) -> int:
        lib, xch = self.probe.lib, self.probe.xch
        return int(lib.xc_logdirty_control(xch, self.domid, op, self.buffer, pages, mode, self.stats))

    def read(self, op: int, pages: int = -1) -> set[int]:
        """The pfns whose bits are set among the first ``pages``."""
        pages = self.nr_pfns if pages < 0 else pages
        view = self.probe.ffi.buffer(self.memory, (pages + 7) // 8 + 8)
        view[:] = b"\xa5" * len(view)
        assert self.call(op, pages) == pages
        content = bytes(view)
        assert content[(pages + 7) // 8 :] == b"\xa5" * 8, "written past the end"
        some = [(at, byte) for at, byte in enumerate(content[: (pages + 7) // 8]) if byte]
        found = {8 * at + bit for at, byte in some for bit in range(8) if byte >> bit & 1}
        assert not found or max(found) < pages
        return found

    def free(self) -> None:
        self.probe.lib.xc__hypercall_buffer_free_pages(self.probe.xch, self.buffer, self.pages)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("span", ["0", "1100M"])
def test_against_a_model(probe: Probe, seed: int, span: str) -> None:
    rng = random.Random(seed)
    mem = f"{rng.randrange(300, 1100) * 4}K" if span == "0" else "12M"
    guest = probe.guest(mem=mem, span=span, seed=seed, holes=0.2)
    log, memory = Log(probe, guest.domid, guest.nr_pfns), guest.pfns_with_memory()
    guest.write_page(memory[1], b"before it is on")
    assert log.control(ENABLE_LOGDIRTY) == 0
    model: set[int] = set()
    for _ in range(200):
        action = rng.randrange(4)
        if action < 2:
            pfn = rng.choice(memory)
            guest.write_page(pfn, rng.randbytes(8), rng.randrange(4088))
            model.add(pfn)
            continue
        more, fewer = guest.nr_pfns + rng.randrange(200), rng.randrange(1, guest.nr_pfns)
        pages = rng.choice([guest.nr_pfns, more, fewer])
        op = PEEK if action == 2 else CLEAN
        assert log.read(op, pages) == {pfn for pfn in model if pfn < pages}
        assert log.stats.dirty_count == len(model)
        if op == CLEAN:
            model.clear()
            assert log.read(PEEK) == set()
            assert log.stats.dirty_count == 0
    log.free()


def test_what_xen_refuses(probe: Probe) -> None:
    guest = probe.guest()
    log = Log(probe, guest.domid, guest.nr_pfns)
    assert log.control(OFF) == 0
    assert (log.control(ENABLE), probe.errno) == (-1, errno.EINVAL)  # a mode other than log-dirty
    assert log.control(ENABLE, MODE_LOG_DIRTY) == 0
    assert (log.control(ENABLE_LOGDIRTY), probe.errno) == (-1, errno.EINVAL)  # on already
    assert guest.state().logdirty
    assert (log.call(CLEAN, 8, mode=2), probe.errno) == (-1, errno.EINVAL)
    assert log.call(CLEAN, 8, mode=FINAL) == 8
    assert (log.call(OFF, 8), probe.errno) == (-1, errno.EINVAL)
    assert (log.call(CLEAN, 1 << 20), probe.errno) == (-1, errno.EFAULT)  # more than the buffer holds
    assert log.control(OFF) == 0
    assert log.control(ENABLE_LOGDIRTY) == 0
    assert log.control(OFF) == 0
    missing = Log(probe, guest.domid + 1, 64)
    assert (missing.control(ENABLE_LOGDIRTY), probe.errno) == (-1, errno.ESRCH)
    assert (missing.call(CLEAN, 8), probe.errno) == (-1, errno.ESRCH)
    missing.free()
    log.free()


@pytest.mark.parametrize("kind", ["pv64", "pvh"])
def test_a_bitmap_while_it_is_off_is_empty_and_no_error(probe: Probe, kind: str) -> None:
    """As in Xen (paging_log_dirty_op): who has lost log-dirty mode is not told."""
    guest = probe.guest() if kind == "pv64" else probe.hvm(mem="4M")
    log, pfn = Log(probe, guest.domid, guest.nr_pfns), guest.pfns_with_memory()[5]
    assert log.read(CLEAN) == log.read(PEEK) == set()
    assert log.control(ENABLE_LOGDIRTY) == 0
    guest.write_page(pfn, b"x")
    assert pfn in log.read(PEEK)
    assert log.control(OFF) == 0
    guest.write_page(pfn, b"y")
    assert log.read(CLEAN) == log.read(PEEK) == set()
    assert not guest.state().logdirty
    log.free()


def test_plain_memory_is_no_hypercall_buffer(probe: Probe) -> None:
    guest = probe.guest()
    log = Log(probe, guest.domid, guest.nr_pfns)
    assert log.control(ENABLE_LOGDIRTY) == 0
    plain = probe.ffi.new("char[]", 4096)
    forged = probe.ffi.new("xc_hypercall_buffer_t *")
    forged.hbuf = plain
    rc = probe.lib.xc_logdirty_control(probe.xch, guest.domid, CLEAN, forged, 64, 0, log.stats)
    assert (rc, probe.errno) == (-1, errno.EFAULT)
    log.free()
    assert log.control(OFF) == 0


def test_hypervisor_without_shadow_paging(probe: Probe) -> None:
    probe.stub.reset(shadow=False)
    guest = probe.guest()
    log = Log(probe, guest.domid, 64)
    assert (log.control(ENABLE_LOGDIRTY), probe.errno) == (-1, errno.EOPNOTSUPP)
    assert (log.control(OFF), probe.errno) == (-1, errno.EINVAL)
    assert not guest.state().logdirty
    log.free()


def snapshot(guest: StubDomain) -> dict[int, tuple[PageType, bytes]]:
    pfns = guest.pfns_with_memory()
    return {pfn: (kind, guest.read_page(pfn)) for pfn, kind in zip(pfns, guest.types(pfns))}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_changes_without_being_logged(probe: Probe, seed: int) -> None:
    """Data, tables, types, ballooning, p2m changes: after a CLEAN all that changes is in the next one."""
    guest = probe.guest(mem="6M", seed=seed, writer="calls", writes=5, pt_updates=4, holes=0.1)
    log = Log(probe, guest.domid, guest.nr_pfns)
    assert log.control(ENABLE_LOGDIRTY) == 0
    rng = random.Random(seed)
    log.read(CLEAN)
    before = snapshot(guest)  # the guest ran at the entry of CLEAN, before the bitmap was taken
    for _ in range(25):
        guest.tick(rng.randrange(3))
        came = change_structure(guest, rng)
        dirty = log.read(CLEAN)
        after = snapshot(guest)
        changed = {pfn for pfn in after if after[pfn] != before.get(pfn)}
        assert changed - came <= dirty  # what Xen gives to a guest is nobody's write; the p2m's page is the guest's
        assert {guest.leaf_pfns()[pfn // 512] for pfn in came} <= dirty
        assert len(dirty) < 1000
        before = after
    assert guest.state().pt_updates > 100
    log.free()


def change_structure(guest: StubDomain, rng: random.Random) -> set[int]:
    """Returns the pfns that got memory."""
    action = rng.randrange(4)
    if action == 0:
        guest.replace_leaf(rng.randrange(guest.state().nr_leaves))
    elif action == 1:
        missing = sorted(set(range(guest.nr_pfns)) - set(guest.pfns_with_memory()))
        came = rng.choice(missing)
        guest.balloon_in(came)
        return {came}
    elif action == 2:
        guest.move_p2m(0xFFFFD00000000000 + rng.randrange(1 << 20) * 4096, new_root=rng.random() < 0.2)
    return set()


def test_writer_thread(probe: Probe) -> None:
    """A CLEAN and the thread exclude each other: after it stops, memory differs only where bits were seen."""
    guest = probe.guest(mem="6M", writer="thread", rate=100000, pt_updates=1)
    log = Log(probe, guest.domid, guest.nr_pfns)
    assert log.control(ENABLE_LOGDIRTY) == 0
    before = snapshot(guest)
    seen: set[int] = set()
    while guest.state().writes < 20000:
        seen |= log.read(CLEAN)
    assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    stopped = guest.state().writes
    seen |= log.read(CLEAN)
    after = snapshot(guest)
    assert {pfn for pfn in after if after[pfn] != before[pfn]} <= seen
    assert guest.state().writes == stopped
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
    log.free()


@pytest.mark.parametrize("seed", range(3))
def test_hot_pages(probe: Probe, seed: int) -> None:
    guest = probe.guest(mem="8M", writer="calls", writes=200, pt_updates=0, hot="64K", seed=seed)
    log = Log(probe, guest.domid, guest.nr_pfns)
    assert log.control(ENABLE_LOGDIRTY) == 0
    log.read(CLEAN)
    guest.tick(5)
    assert 1 <= len(log.read(PEEK)) <= 17
    log.free()
