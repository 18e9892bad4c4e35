"""A guest's answers to control/shutdown, what it leaves when it is suspended, and how it goes on."""

from __future__ import annotations

import errno
import struct
from typing import Any, Optional

import pytest
from support.same import check_same

from pyxcsr.frames import PageType
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe

pytestmark = pytest.mark.toolchain

STORE_MFN, CONSOLE_MFN = 56, 72  # in start_info


class Store:
    """A connection to the store."""

    def __init__(self, probe: Probe, domid: int) -> None:
        self.probe, self.handle = probe, probe.lib.xs_open(0)
        self.path = f"/local/domain/{domid}/control/shutdown".encode()

    def write(self, value: bytes, transaction: int = 0) -> bool:
        return bool(self.probe.lib.xs_write(self.handle, transaction, self.path, value, len(value)))

    def read(self, transaction: int = 0, path: Optional[bytes] = None) -> Optional[bytes]:
        length = self.probe.ffi.new("unsigned int *")
        value = self.probe.lib.xs_read(self.handle, transaction, path or self.path, length)
        if not value:
            return None
        text = bytes(self.probe.ffi.buffer(value, length[0]))
        self.probe.lib.free(value)
        return text

    def close(self) -> None:
        self.probe.lib.xs_close(self.handle)


@pytest.fixture
def ask(probe: Probe) -> Any:
    """ask(guest, polls): asks a guest to suspend; what the node held at each of the polls that follow."""
    stores: list[Store] = []

    def asked(guest: StubDomain, polls: int = 30) -> list[Optional[bytes]]:
        stores.append(Store(probe, guest.domid))
        assert stores[-1].write(b"suspend")
        return [stores[-1].read() for _ in range(polls)]

    yield asked
    for store in stores:
        store.close()


def test_suspends_after_acknowledging(probe: Probe, ask: Any) -> None:
    guest = probe.guest(ack_polls=2, suspend_polls=3)
    assert ask(guest, 3) == [b"suspend", b"suspend", b""]
    assert guest.running
    probe.info(guest.domid)
    probe.info(guest.domid)
    probe.info(guest.domid)
    assert guest.running
    assert probe.info(guest.domid).flags == 1 << 2 | 2 << 16  # this call is the fourth
    assert guest.suspended


@pytest.mark.parametrize(
    ("kind", "node", "reason"),
    [
        ("ok", b"", 2),
        ("crash", b"", 3),
        ("poweroff", b"", 0),
        ("ack-only", b"", None),
        ("ignore", b"suspend", None),
    ],
)
def test_kinds(probe: Probe, ask: Any, kind: str, node: bytes, reason: Optional[int]) -> None:
    guest = probe.guest(suspend=kind)
    assert ask(guest)[-1] == node
    assert guest.state().shutdown_reason == reason
    assert guest.running == (reason is None)


def test_slow(probe: Probe, ask: Any) -> None:
    guest = probe.guest(suspend="slow:100")
    ask(guest, 100)
    assert guest.running
    for _ in range(10):
        probe.info(guest.domid)
    assert guest.suspended


def test_withdrawn_in_time(probe: Probe) -> None:
    guest = probe.guest(ack_polls=20)
    store = Store(probe, guest.domid)
    store.write(b"suspend")
    assert [store.read() for _ in range(5)] == [b"suspend"] * 5
    store.write(b"")
    for _ in range(60):
        probe.info(guest.domid)
    assert guest.running
    store.close()


def frames(guest: StubDomain) -> tuple[int, int]:
    page = guest.read_page(guest.state().start_info_pfn)
    return struct.unpack_from("<Q", page, STORE_MFN)[0], struct.unpack_from("<Q", page, CONSOLE_MFN)[0]


@pytest.mark.parametrize("seed", range(4))
def test_state_of_a_suspended_guest(probe: Probe, ask: Any, seed: int) -> None:
    guest = probe.guest(seed=seed, writer="calls", writes=4, pt_updates=6, vcpus=2)
    state = guest.state()
    running = (guest.mfn(state.store_pfn), guest.mfn(state.console_pfn))
    assert frames(guest) == running
    guest.tick(200)
    probe.info(guest.domid)
    assert guest.vcpu(0, "rdx") != guest.mfn(state.start_info_pfn)
    ask(guest)
    assert guest.suspended
    assert frames(guest) == (state.store_pfn, state.console_pfn)
    assert guest.vcpu(0, "rdx") == guest.mfn(state.start_info_pfn)
    memory = guest.pfns_with_memory()
    still = guest.expected_pages(memory)  # raises if an entry refers to a foreign frame
    guest.tick(50)
    probe.info(guest.domid)
    check_same(guest.expected_pages(memory), still)
    guest.set_generation(6)
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == 0
    assert guest.vcpu(0, "rax") == 1
    assert guest.shared_info("p2m_generation") == 0
    assert frames(guest) == running
    with pytest.raises(StubError, match="not the guest's"):
        guest.expected_pages(memory)
    guest.tick(5)
    assert guest.state().ticks > 200
    ask(guest)
    assert guest.suspended


def test_transients_happen(probe: Probe) -> None:
    """While it runs, tables do refer to foreign frames at times, of both sorts."""
    guest = probe.guest(writer="calls", writes=0, pt_updates=3, fixmap=False)
    messages = set()
    clean = 0
    for _ in range(60):
        guest.tick()
        try:
            guest.expected_pages(guest.pfns_of_type(PageType.L1TAB_PINNED))
            clean += 1
        except StubError as error:
            messages.add(str(error)[-50:])
    assert messages
    assert 1 <= len(guest.pfns_of_type(PageType.L1TAB_PINNED)) <= 16


def test_tables_come_and_go(probe: Probe) -> None:
    guest = probe.guest(writer="calls", writes=1, pt_updates=5)
    seen = set()
    for _ in range(80):
        guest.tick()
        seen |= set(guest.pfns_of_type(PageType.L1TAB_PINNED))
    assert len(seen) > 8
    gone = seen - set(guest.pfns_of_type(PageType.L1TAB_PINNED))
    assert gone
    assert {int(x) for x in guest.types(sorted(gone))} == {0}


def test_same_seed_same_run(probe: Probe) -> None:
    def run(seed: int) -> list[bytes]:
        probe.stub.reset()
        guest = probe.guest(mem="4M", writer="calls", writes=9, pt_updates=3, seed=seed)
        for _ in range(30):
            probe.info(guest.domid)
        return [guest.read_page(pfn) for pfn in range(1024)]

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_only_running_guests_run(probe: Probe) -> None:
    guest = probe.guest(writer="calls", writes=5)
    before = guest.state().writes
    assert probe.lib.xc_domain_pause(probe.xch, guest.domid) == 0
    while_pausing = guest.state().writes
    assert while_pausing == before + 5
    probe.info(guest.domid)
    assert guest.state().writes == while_pausing
    assert probe.lib.xc_domain_unpause(probe.xch, guest.domid) == 0
    probe.info(guest.domid)
    assert guest.state().writes == while_pausing + 5


def test_thread_stops_while_suspended(probe: Probe, ask: Any) -> None:
    guest = probe.guest(writer="thread", rate=200000)
    while not guest.state().writes:
        probe.info(guest.domid)
    ask(guest)
    assert guest.suspended
    memory = guest.pfns_with_memory()
    check_same(guest.expected_pages(memory), guest.expected_pages(memory))
    stopped = guest.state().writes
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == 0
    while guest.state().writes == stopped:
        probe.info(guest.domid)


def test_store(probe: Probe) -> None:
    guest = probe.guest(name="web-1")
    store = Store(probe, guest.domid)
    base = f"/local/domain/{guest.domid}".encode()
    assert store.read(path=base + b"/name") == b"web-1"
    assert store.read(path=base + b"/domid") == str(guest.domid).encode()
    assert store.read(path=base + b"/nothing") is None
    assert probe.errno == errno.ENOENT
    assert store.read(path=b"relative") is None
    assert probe.errno == errno.EINVAL
    assert probe.stub.store_read(base.decode() + "/name") == "web-1"
    assert probe.lib.xs_resume_domain(store.handle, guest.domid)
    assert not probe.lib.xs_resume_domain(store.handle, 99)
    guest.destroy()
    assert store.read(path=base + b"/name") is None
    store.close()


def test_transactions(probe: Probe) -> None:
    guest = probe.guest(suspend="ignore")
    one, two = Store(probe, guest.domid), Store(probe, guest.domid)
    t = probe.lib.xs_transaction_start(one.handle)
    assert t != 0
    assert one.write(b"mine", t)
    assert (one.read(t), one.read(), two.read()) == (b"mine", b"", b"")
    assert two.read(t) is None  # not its transaction
    assert probe.lib.xs_transaction_end(one.handle, t, False)
    assert two.read() == b"mine"
    t = probe.lib.xs_transaction_start(one.handle)
    assert one.write(b"late", t)
    assert two.write(b"first")
    assert not probe.lib.xs_transaction_end(one.handle, t, False)
    assert probe.errno == errno.EAGAIN
    assert one.read() == b"first"
    t = probe.lib.xs_transaction_start(one.handle)
    assert one.write(b"never", t)
    assert probe.lib.xs_transaction_end(one.handle, t, True)
    assert one.read() == b"first"
    assert not probe.lib.xs_transaction_end(one.handle, t, True)
    assert probe.errno == errno.ENOENT
    probe.lib.xs_transaction_start(two.handle)
    assert probe.stub.leaks() == {"xs_transactions": 1}
    one.close()
    two.close()


def test_no_entry_of_a_moment_stays(probe: Probe) -> None:
    """Entries that refer to nobody's frame for a while are gone when it suspends, also where two were in one place."""
    guest = probe.guest(mem="4M", writer="calls", writes=0, pt_updates=50)
    for _ in range(4000):
        guest.tick(1)
        guest.shut_down()
        tables = [x for kind in (PageType.L1TAB, PageType.L1TAB_PINNED) for x in guest.pfns_of_type(kind)]
        guest.expected_pages(tables)  # raises if an entry refers to a foreign frame
        assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 1) == 0
