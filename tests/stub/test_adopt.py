"""A guest built again runs on: its kernel finds itself, or crashes and says what is wrong with what it was given."""

from __future__ import annotations

import struct
from typing import Any, Callable

import pytest

from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.panel import StubError

from .conftest import Probe
from .rebuild import Rebuild

pytestmark = pytest.mark.toolchain

SHUTDOWN, PAUSED, RUNNING = 1 << 2, 1 << 3, 1 << 5


def suspended(probe: Probe, **values: Any) -> StubDomain:
    values.setdefault("mem", "4M")
    guest = probe.guest(writer="calls", **values)
    guest.tick(100)
    guest.shut_down(2)
    return guest


def kernel_page(guest: StubDomain) -> int:
    magic = struct.pack("<Q", 0x6C656E72656B7473)
    return next(pfn for pfn in guest.pfns_with_memory() if guest.read_page(pfn)[:8] == magic)


def differing(old: StubDomain, new: StubDomain) -> list[int]:
    """Pfns that differ, but for those that hold mfns: the p2m's pages and start_info."""
    pfns = old.pfns_with_memory()
    assert new.pfns_with_memory() == pfns
    assert new.types(pfns) == old.types(pfns)
    other = {*old.leaf_pfns(), old.state().start_info_pfn}
    pages = zip(pfns, old.expected_pages(pfns), new.expected_pages(pfns))
    return [pfn for pfn, was, now in pages if was != now and pfn not in other]


GUESTS: list[dict[str, Any]] = [
    {},
    {"vcpus": 8, "offline_vcpus": (3, 7), "pt_updates": 6, "seed": 5},
    {"holes": 0.4, "seed": 2, "hot": 65536},
    {"mem": "4M", "span": "256M", "spare_p2m": "1G", "seed": 3},
    {"share_invalid": False, "spare_p2m": "64M", "fixmap": False},
    {"p2m_vaddr": 0xFFFFFC0000003000, "seed": 9},
]


@pytest.mark.parametrize("values", GUESTS)
def test_round_and_round(probe: Probe, values: dict[str, Any]) -> None:
    guest = suspended(probe, **values)
    for reverse in (False, True, False):
        new = Rebuild(probe, guest, reverse).all()
        assert differing(guest, new) == []
        assert not new.state().booted and new.state().start_info_pfn == 2**64 - 1
        assert probe.info(new.domid).flags == PAUSED
        assert probe.lib.xc_domain_unpause(probe.xch, new.domid) == 0
        new.adopt()  # it runs already
        assert probe.info(new.domid).flags == RUNNING
        was, now = guest.state(), new.state()
        for name in ("nr_pfns", "start_info_pfn", "store_pfn", "console_pfn", "kernel_root_pfn", "user_root_pfn",
                     "nr_leaves", "missing_leaf_pfn"):
            assert getattr(now, name) == getattr(was, name), name
        assert new.leaf_pfns() == guest.leaf_pfns()
        assert new.shared_info("max_pfn") == now.nr_pfns
        assert new.shared_info("p2m_cr3") == new.vcpu(0, "cr3") == new.mfn(now.kernel_root_pfn) << 12
        assert (new.shared_info("p2m_vaddr"), new.shared_info("p2m_generation")) == (
            values.get("p2m_vaddr", 0xFFFFC90000000000), 0)
        probe.stub.destroy(guest.domid)
        before = new.state()
        new.tick(150)
        assert new.state().writes > before.writes and new.state().pt_updates > before.pt_updates
        assert new.shared_info("p2m_generation") == 0
        new.shut_down(2)
        new.expected_pages(new.pfns_with_memory())  # raises where an entry is not the guest's
        guest = new


@pytest.mark.parametrize("tree", ["both", "only"])
def test_tree(probe: Probe, tree: str) -> None:
    guest = suspended(probe, tree=tree, spare_p2m="2M", mem="8M")
    new = Rebuild(probe, guest).all()
    changed = differing(guest, new)  # the tree's own pages, which hold the old guest's mfns still
    new.adopt()
    fll = new.shared_info("pfn_to_mfn_frame_list_list")
    owner, top, _ = probe.stub.frame(fll)
    assert owner == new.domid and top is not None
    lists = struct.unpack_from("<512Q", new.read_page(top))
    assert lists[1:] == (2**64 - 1,) * 511
    owner, middle, _ = probe.stub.frame(lists[0])
    assert owner == new.domid and middle is not None
    assert set(changed) <= {top, middle}
    leaves = new.leaf_pfns()
    assert list(struct.unpack_from(f"<{len(leaves)}Q", new.read_page(middle))) == [new.mfn(pfn) for pfn in leaves]
    assert (new.shared_info("p2m_cr3") == 0) == (tree == "only")
    new.replace_leaf(1)
    assert struct.unpack_from("<Q", new.read_page(middle), 8)[0] == new.mfn(new.leaf_pfns()[1])


def test_it_goes_on_as_the_old_one_would(probe: Probe) -> None:
    """What it does next is in its memory too: a resumed guest and a restored one write the same."""
    guest = suspended(probe, pt_updates=0, fixmap=False, vcpus=2)
    new = Rebuild(probe, guest, reverse=True).all()
    assert probe.lib.xc_domain_resume(probe.xch, guest.domid, 0) == 0
    new.adopt()
    before = guest.state().writes
    new.tick(7)
    guest.tick(new.state().ticks - (guest.state().ticks - 100))
    for domain in (guest, new):
        domain.shut_down(2)
    assert guest.state().writes - before > 50
    assert differing(guest, new) in ([], [kernel_page(new)])  # in which its name stands
    assert [new.vcpu(v, "rip") for v in (0, 1)] == [guest.vcpu(v, "rip") for v in (0, 1)]


def test_a_thread_writes_again(probe: Probe) -> None:
    guest = probe.guest(mem="4M", writer="thread", rate=50000)
    guest.shut_down(2)
    new = Rebuild(probe, guest).all()
    assert new.state().writes == 0
    new.adopt()
    for _ in range(2000):
        if new.state().writes:
            break
        probe.info(new.domid)
    assert new.state().writes > 0
    new.shut_down(2)


def test_ballooning_afterwards(probe: Probe) -> None:
    guest = suspended(probe, pt_updates=4)
    new = Rebuild(probe, guest, reverse=True).all()
    new.adopt()
    out = []
    for pfn in new.pfns_of_type(PageType.NOTAB)[:200]:
        try:
            new.balloon_out(pfn)
            out.append(pfn)
        except StubError:
            pass  # the kernel's own
    assert len(out) > 150 and len(new.pfns_with_memory()) == 1024 - len(out)
    new.tick(50)
    new.shut_down(2)
    new.expected_pages(new.pfns_with_memory())
    third = Rebuild(probe, new).all()
    third.adopt()
    third.balloon_in(out)
    third.tick(50)
    assert len(third.pfns_with_memory()) == 1024


def test_fewer_guests_than_vcpus(probe: Probe) -> None:
    guest = suspended(probe, vcpus=2)
    again = Rebuild(probe, guest)
    again.vcpus = 1
    new = again.all()
    new.adopt()
    info = probe.info(new.domid)
    assert (info.nr_online_vcpus, info.max_vcpu_id) == (1, 1)
    new.tick(20)
    new.shut_down(2)
    again = Rebuild(probe, new)
    assert again.vcpus == 2
    again.all().adopt()


# -- what it was given is wrong


def poke(again: Rebuild, pfn: int, offset: int, value: int) -> None:
    again.probe.write(again.domid, again.mfns[pfn], struct.pack("<Q", value), offset)


def wrong_context(again: Rebuild, change: Callable[[Any], None]) -> None:
    def contexts() -> None:
        context, native = again.context(0)
        change(native)
        again.set_context(0, context)
    again.contexts = contexts  # type: ignore[method-assign]


def swap_roots(c: Any) -> None:
    c.ctrlreg[1], c.ctrlreg[3] = c.ctrlreg[3], c.ctrlreg[1]


BROKEN: dict[str, tuple[str, Callable[[Rebuild], None]]] = {
    "a p2m entry of another page": (
        "the p2m says mfn", lambda a: poke(a, a.leaves[0], 8 * a.pfns[5], a.mfns[a.pfns[6]])),
    "a p2m entry left out": ("the p2m says mfn 0xffffffffffffffff", lambda a: poke(a, a.leaves[1], 0, INVALID)),
    "a p2m entry too many": ("the p2m says mfn", lambda a: poke(a, a.leaves[-1], 8 * 511, 77)),
    "the kernel's page": ("not the kernel's page as it was", lambda a: poke(a, kernel_page(a.new), 16, 1)),
    "start_info's store": ("of the store's ring is not", lambda a: poke(a, a.old.state().start_info_pfn, 56, 3)),
    "start_info's console": ("of the console's ring", lambda a: poke(a, a.old.state().start_info_pfn, 72, 2**50)),
    "start_info's shared_info": ("shared_info is at", lambda a: poke(a, a.old.state().start_info_pfn, 40, 4096)),
    "start_info itself": ("no start_info page", lambda a: poke(a, a.old.state().start_info_pfn, 0, 0)),
    "no start_info": ("start_info page is not", lambda a: wrong_context(a, lambda c: setattr(c.user_regs, "rdx", 3))),
    "the roots": ("not mapped", lambda a: wrong_context(a, swap_roots)),
}
INVALID = 2**64 - 1


@pytest.mark.parametrize("what", BROKEN)
def test_broken(probe: Probe, what: str) -> None:
    text, damage = BROKEN[what]
    guest = suspended(probe, mem="8M", holes=0.3, spare_p2m="2M", share_invalid=False)
    again = Rebuild(probe, guest)
    again.memory()
    again.p2m()
    again.start_info()
    again.shared_info()
    damage(again)
    again.contexts()
    again.pins()
    assert probe.lib.xc_domain_unpause(probe.xch, again.domid) == 0  # Xen finds nothing wrong with it
    assert probe.info(again.domid).flags == SHUTDOWN | 3 << 16
    assert not again.new.state().booted
    for _ in range(2):
        with pytest.raises(StubError, match=r"kernel crashed: .*" + text) as caught:
            again.new.adopt()
        assert caught.value.domid == again.domid


def test_a_table_that_is_none(probe: Probe) -> None:
    """Without its pin the process's root is no table where no vcpu runs on it."""
    guest = suspended(probe, vcpus=1)
    again = Rebuild(probe, guest)
    wrong_context(again, lambda c: c.ctrlreg.__setitem__(1, 0))
    again.kinds[guest.state().user_root_pfn] = PageType.L4TAB
    new = again.all()
    with pytest.raises(StubError, match=r"process's root table.*is not an L4"):
        new.adopt()


def test_memory_beyond_the_p2m(probe: Probe) -> None:
    guest = suspended(probe)
    again = Rebuild(probe, guest)
    assert probe.populate(again.domid, [again.nr_pfns + 600])[0] == 0
    with pytest.raises(StubError, match="beyond the p2m's end"):
        again.all().adopt()


def test_when_it_may_start(probe: Probe) -> None:
    guest = suspended(probe)
    again = Rebuild(probe, guest)
    with pytest.raises(StubError, match="no context"):
        again.new.adopt()
    new = again.all()
    assert probe.lib.xc_domain_pause(probe.xch, new.domid) == 0
    with pytest.raises(StubError, match="paused 2 times"):
        new.adopt()
    assert probe.lib.xc_domain_unpause(probe.xch, new.domid) == 0
    assert not new.state().booted
    new.adopt()
    assert new.running and probe.stub.leaks() == {}
    page = new.read_page(new.state().start_info_pfn)
    assert struct.unpack_from("<Q", page, 56)[0] == new.mfn(new.state().store_pfn)
    assert len(page) == PAGE_SIZE


def test_without_page_tables(probe: Probe) -> None:
    """A vcpu whose context Xen takes, in memory that is no kernel's."""
    domid = probe.stub.create_empty("4M")
    rc, mfns = probe.populate(domid, [0])
    assert rc == 0
    probe.write(domid, mfns[0], bytes(PAGE_SIZE))
    context = probe.ffi.new("vcpu_guest_context_any_t *")
    native = probe.ffi.cast("vcpu_guest_context_t *", context)
    native.flags, native.ctrlreg[3] = 1 << 5 | 1 << 2, mfns[0] << 12
    assert probe.lib.xc_vcpu_setcontext(probe.xch, domid, 0, context) == 0
    with pytest.raises(StubError, match="page is not mapped at 0"):
        probe.stub.guest(domid).adopt()


def test_a_sized_span_of_errors(probe: Probe) -> None:
    """Destroying guests in every state of being built leaves nothing."""
    guest = suspended(probe)
    free = probe.stub.free_frames
    for steps in range(7):
        again = Rebuild(probe, guest)
        for step in ("memory", "p2m", "start_info", "shared_info", "contexts", "pins")[:steps]:
            getattr(again, step)()
        probe.stub.destroy(again.domid)
        assert probe.stub.free_frames == free
    assert probe.stub.leaks() == {}
