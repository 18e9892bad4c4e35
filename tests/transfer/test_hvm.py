"""HVM and PVH guests on the stub: saved and restored whole, whatever they, their device model and their balloon do."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.hvm_guests import ToldDeviceModel, judge_hvm, pages_of, restored, save_hvm, wrong_pages

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import DeviceModelError, GuestStateError, HypervisorError, NotSupported, SuspendError
from pyxcsr.frames import PageType
from pyxcsr.guest.hvm import following, pod
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import SimplePolicy
from pyxcsr.stream import hvm_params

GUESTS = {
    "pvh": "pvh:mem=8M",
    "pvh, vcpus": "pvh:mem=8M,vcpus=4,offline_vcpus=2,compact=yes",
    "pvh, holes": "pvh:mem=16M,holes=0.3",
    "pvh, busy": "pvh:mem=8M,writes=200,compact=yes",
    "hvm": "hvm:mem=8M,compact=yes",
    "hvm, device model": "hvm:mem=8M,devmodel=50,compact=yes",
    "hvm, video memory": "hvm:mem=8M,vram=4M,devmodel=20",
    "hvm, no driver": "hvm:mem=8M,pv_drivers=no,compact=yes",
    "hvm, viridian": "hvm:mem=8M,viridian=yes,xsave=0,compact=yes",
}


@pytest.fixture(autouse=True)
def _never_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked for goes by what the guest does, not by how long this process had to wait for a processor."""
    monkeypatch.setattr(following, "UNWATCHED", 1e9)


def created(hv: StubBackend, text: str, compact: bool = True) -> int:
    """``compact``: few gfns, so that the test is quick. The guests of GUESTS have their own say of that."""
    return hv.stub.create(StubGuest.parse(f"{text},compact=yes" if compact else text))


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_saved_and_restored(hv: StubBackend, tmp_path: Path, name: str, live: bool) -> None:
    domid = created(hv, GUESTS[name], compact=False)
    path = tmp_path / "s"
    report = save_hvm(hv, domid, path, live=live)
    judge_hvm(hv, domid, path)
    guest = hv.stub.guest(domid)
    rings = {page.pfn for page in hvm_params.pages([(i, hv.hvm_param(domid, i)) for i in hvm_params.SENT])}
    before = pages_of(guest, but=rings)
    assert report.nr_pfns == hv.nr_gpfns(domid) and not guest.state().logdirty
    vcpus = hv.domain_info(domid).max_vcpu_id + 1
    hv.domain_destroy(domid)
    new = restored(hv, path, GUESTS[name].split(":", maxsplit=1)[0], "12M", vcpus=vcpus)
    assert pages_of(new, but=rings) == before
    new.adopt()
    new.tick(50)
    save_hvm(hv, new.domid, tmp_path / "again", live=live)
    judge_hvm(hv, new.domid, tmp_path / "again", xen=False)


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_sent_again_for_comparison(hv: StubBackend, tmp_path: Path, live: bool) -> None:
    domid = created(hv, "pvh:mem=4M")
    report = save_hvm(hv, domid, tmp_path / "s", live=live, verify=True)
    assert report.verify is not None and report.verify.pages > 1000
    judge_hvm(hv, domid, tmp_path / "s", xen=False)
    hv.domain_destroy(domid)
    restored(hv, tmp_path / "s", "pvh", "4M")


def test_few_calls_for_many_pages(hv: StubBackend, tmp_path: Path) -> None:
    """Memory is given to a restored guest in 2 MiB extents, where the machine has such."""
    hv.stub.reset(extent_order=9)
    domid = created(hv, "pvh:mem=16M,writes=0")
    save_hvm(hv, domid, tmp_path / "s", live=False)
    hv.domain_destroy(domid)
    hv.stub.clear_calls()
    restored(hv, tmp_path / "s", "pvh", "16M")
    calls = hv.stub.calls()
    assert calls.get("xc_domain_populate_physmap", 0) + calls.get("xc_domain_populate_physmap_exact", 0) <= 16, calls


# -- the device model


def test_a_device_model_that_is_not_told_costs_pages(hv: StubBackend, tmp_path: Path) -> None:
    """The judge of this file: what happens without what the next tests are about."""
    domid = created(hv, "hvm:mem=8M,devmodel=50,writes=0")
    save_hvm(hv, domid, tmp_path / "s", device_model=DeviceModel())
    assert wrong_pages(hv, domid, tmp_path / "s")


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("kind", ["hvm:mem=8M,devmodel=50", "hvm:mem=8M,devmodel=50,writer=thread", "pvh:mem=4M"])
def test_a_device_model_is_found_where_none_is_named(hv: StubBackend, tmp_path: Path, kind: str, live: bool) -> None:
    domid = created(hv, kind)
    save_hvm(hv, domid, tmp_path / "s", device_model=None, live=live)
    judge_hvm(hv, domid, tmp_path / "s")
    assert not hv.stub.guest(domid).state().devmodel_logdirty
    pyxcsr.resume(hv, domid)
    assert hv.stub.guest(domid).running


def test_a_device_model_that_refuses_ends_the_save(hv: StubBackend, tmp_path: Path) -> None:
    """It is not told to stop what it has not begun: QEMU would end."""
    domid = created(hv, "hvm:mem=8M,devmodel=5")
    guest = hv.stub.guest(domid)
    model = ToldDeviceModel(guest, refuse=(1,))
    with pytest.raises(DeviceModelError, match="does not answer"):
        save_hvm(hv, domid, tmp_path / "s", device_model=model)
    assert model.told == [True]
    assert guest.running and not guest.state().logdirty and hv.stub.leaks() == {}


def test_a_device_model_that_does_not_stop_is_told_twice_and_warned_of(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "hvm:mem=8M,devmodel=5")
    model = ToldDeviceModel(hv.stub.guest(domid), refuse=(2, 3))
    report = save_hvm(hv, domid, tmp_path / "s", device_model=model)
    assert model.told == [True, False, False]
    assert report.warnings == ["the device model does not answer"]
    judge_hvm(hv, domid, tmp_path / "s", xen=False)


@pytest.mark.parametrize("op", ["connect", "greeting", "xen-set-global-dirty-log"])
def test_it_is_told_to_stop_once_more_only_if_it_cannot_have_heard(hv: StubBackend, tmp_path: Path, op: str) -> None:
    """The save has failed while the guest runs: then QEMU would end if it was told twice."""
    domid = created(hv, "hvm:mem=8M,devmodel=5")
    guest = hv.stub.guest(domid)

    class Silent(ToldDeviceModel):
        """It stops, but for what it says it might not have heard of it."""

        def track(self, on: bool) -> None:
            if on or op == "xen-set-global-dirty-log" or len(self.told) > 1:
                super().track(on)
            else:
                self.told.append(on)
            if self.told == [True, False]:
                raise DeviceModelError("the device model does not answer", domid=domid, op=op)

    model = Silent(guest)
    with pytest.raises(pyxcsr.Cancelled):
        save_hvm(hv, domid, tmp_path / "s", device_model=model, cancel=lambda: model.told == [True])
    assert model.told == ([True, False] if op == "xen-set-global-dirty-log" else [True, False, False])
    state = guest.state()
    assert guest.running and state.device_model and not state.devmodel_logdirty and not state.logdirty


def test_it_is_told_before_complete_is_called(hv: StubBackend, tmp_path: Path) -> None:
    """Behind `xl` the process ends in ``complete``, and what comes after it is never done."""
    domid = created(hv, "hvm:mem=2M,devmodel=5")
    model = ToldDeviceModel(hv.stub.guest(domid))
    seen: list[object] = []

    def complete(report: pyxcsr.SaveReport) -> None:
        seen.extend([list(model.told), hv.stub.guest(domid).state().logdirty])

    save_hvm(hv, domid, tmp_path / "s", device_model=model, complete=complete)
    assert seen == [[True, False], False]


def test_it_is_left_alone_when_nothing_is_copied_live(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "hvm:mem=8M,devmodel=5")
    model = ToldDeviceModel(hv.stub.guest(domid))
    save_hvm(hv, domid, tmp_path / "s", device_model=model, live=False)
    assert model.told == []


# -- a physmap that changes

MOMENTS = ["xc_logdirty_control", "xc_get_pfn_type_batch", "xenforeignmemory_map", "xc_domain_shutdown", "xs_write"]


def ordinary(hv: StubBackend, domid: int) -> list[int]:
    """Gfns with memory that the guest's kernel does not need."""
    special = {page.pfn for page in hvm_params.pages([(i, hv.hvm_param(domid, i)) for i in hvm_params.SENT])}
    return [gfn for gfn in hv.stub.guest(domid).pfns_with_memory() if 0x200 <= gfn < 0xF0000 and gfn not in special]


@pytest.mark.parametrize("nth", [2])
@pytest.mark.parametrize("moment", ["xc_logdirty_control", "xc_get_pfn_type_batch", "xenforeignmemory_map"])
@pytest.mark.parametrize("change", ["out", "in", "new"])
def test_what_comes_and_goes(hv: StubBackend, tmp_path: Path, change: str, moment: str, nth: int) -> None:
    """Pages leave, come, or come where there has never been a gfn, at each moment of a save."""
    domid = created(hv, "pvh:mem=8M,max_mem=16M,writes=2")
    guest = hv.stub.guest(domid)
    gfns = ordinary(hv, domid)[100:140]
    if change == "in":
        guest.balloon_out(gfns)
    seen = 0

    def act(name: str, count: int) -> None:
        nonlocal seen
        seen += name == moment
        if name == moment and seen == nth:
            seen += 1
            if change == "out":
                guest.balloon_out(gfns)
            elif change == "in":
                guest.balloon_in(gfns)
            else:
                guest.balloon_in(list(range(0x100100, 0x100108)))

    with hv.stub.hook(act):
        report = save_hvm(hv, domid, tmp_path / "s")
    assert seen >= nth
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert not report.physmap.may_have_missed and report.warnings == []


@pytest.mark.parametrize(("mem", "gone"), [("20M", [4096]), ("32M", [7168]), ("32M", [7168, 7169]), ("28M", [6144])])
def test_what_is_given_ahead_fits_into_a_domain_of_the_same_size(
    hv: StubBackend, tmp_path: Path, mem: str, gone: list[int]
) -> None:
    """Without the first pages of an extent the row behind them begins within it, and goes on to the guest's end."""
    domid = created(hv, f"pvh:mem={mem},writes=0")
    hv.stub.guest(domid).balloon_out(gone)
    save_hvm(hv, domid, tmp_path / "s", live=False)
    new = hv.stub.create_empty(mem, kind="pvh")
    with open(tmp_path / "s", "rb") as stream:
        pyxcsr.restore(hv, new, stream)
    pages = [hv.stub.guest(x).pfns_with_memory() for x in (domid, new)]
    assert pages[0] == pages[1]


def test_what_the_report_says_of_it(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "pvh:mem=8M,writes=2")
    guest, seen = hv.stub.guest(domid), 0
    gfns = ordinary(hv, domid)[:10]

    def act(name: str, count: int) -> None:
        nonlocal seen
        seen += name == "xc_logdirty_control"
        if name == "xc_logdirty_control" and seen == 2:
            guest.balloon_out(gfns)

    with hv.stub.hook(act):
        report = save_hvm(hv, domid, tmp_path / "s")
    assert report.physmap.moves == 1 and report.physmap.looks == 1
    assert report.physmap.vanished == 10 and report.physmap.appeared == 0
    assert report.to_dict()["physmap"]["vanished"] == 10


@pytest.mark.parametrize(("xen", "shown"), [((4, 17), False), ((4, 21), False), ((4, 22), True), ((5, 0), True)])
def test_the_report_says_whether_xen_shows_an_exchange(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xen: tuple[int, int], shown: bool
) -> None:
    monkeypatch.setattr(hv, "xen_version", lambda: xen)
    report = save_hvm(hv, created(hv, "pvh:mem=8M"), tmp_path / "s")
    assert report.physmap.exchanges_shown is shown
    assert report.to_dict()["physmap"]["exchanges_shown"] is shown


def test_a_guest_that_does_not_balloon_is_not_looked_at(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "pvh:mem=8M")
    assert save_hvm(hv, domid, tmp_path / "s").physmap.looks == 0


def at_calls(hv: StubBackend, moments: dict[tuple[str, int], Callable[[], None]]) -> AbstractContextManager[None]:
    """Does each of these when the save makes that call for the nth time, once."""
    seen: Counter[str] = Counter()

    def act(name: str, count: int) -> None:
        seen[name] += 1
        moments.pop((name, seen[name]), lambda: None)()

    return hv.stub.hook(act)


def writes_all(hv: StubBackend, domid: int, gfns: list[int]) -> None:
    for gfn in gfns:
        hv.stub.guest(domid).write_page(gfn, os.urandom(4096))


TYPES, MAP, CLEAN, COUNT = "xc_get_pfn_type_batch", "xenforeignmemory_map", "xc_logdirty_control", "xc_domain_nr_gpfns"
ALL_PASSES = SimplePolicy(max_iterations=4, target_dirty=0)
FAR = list(range(0x100100, 0x100108))


@pytest.mark.parametrize(
    ("come", "written", "far"),
    [
        ((TYPES, 1), (TYPES, 900), False),  # in the first pass, which sends it, but no look can tell that it is new
        ((MAP, 4), (CLEAN, 2), False),  # in the second: a look marks it, and the same pass still comes to it
        ((COUNT, 2), (CLEAN, 2), False),  # after a bitmap was fetched, and before the pass
        ((COUNT, 2), (CLEAN, 2), True),  # the same where there was no gfn before
        ((COUNT, 3), (CLEAN, 4), True),
    ],
    ids=str,
)
def test_what_is_written_to_a_page_before_xen_tracks_it(
    hv: StubBackend, tmp_path: Path, come: tuple[str, int], written: tuple[str, int], far: bool
) -> None:
    """A page that comes is sent by the pass under way, or by the next; what is written to it then is in no bitmap."""
    domid = created(hv, "pvh:mem=8M,max_mem=16M,writes=0", compact=False)
    guest = hv.stub.guest(domid)
    known = ordinary(hv, domid)
    gfns = FAR if far else known[-40:]
    if not far:
        guest.balloon_out(gfns)
    done = []

    def arrive() -> None:
        guest.balloon_in(gfns)
        done.append("come")

    def write() -> None:
        writes_all(hv, domid, gfns)
        done.append("written")

    second_pass_of_two_batches = {(CLEAN, 1): lambda: writes_all(hv, domid, known[20:1200])}
    with at_calls(hv, {come: arrive, written: write, **second_pass_of_two_batches}):
        save_hvm(hv, domid, tmp_path / "s", policy=ALL_PASSES)
    assert done == ["come", "written"]
    assert wrong_pages(hv, domid, tmp_path / "s") == []


@pytest.mark.parametrize(("gone", "back"), [((MAP, 4), (CLEAN, 2)), ((CLEAN, 2), (CLEAN, 3))], ids=str)
def test_gone_and_back_between_two_looks(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, int], back: tuple[str, int]
) -> None:
    monkeypatch.setattr("pyxcsr.guest.hvm.following.REST", 1e9)
    domid = created(hv, "pvh:mem=8M,writes=0")
    guest = hv.stub.guest(domid)
    known = ordinary(hv, domid)
    gfns, first = known[:10], known[-1:]  # so that there is a look, after which it rests
    moments = {
        ("xc_shadow_control", 1): lambda: guest.balloon_out(first),
        (CLEAN, 1): lambda: writes_all(hv, domid, known[20:1200]),
        gone: lambda: guest.balloon_out(gfns),
        back: lambda: guest.balloon_in(gfns),
    }
    with at_calls(hv, moments):
        report = save_hvm(hv, domid, tmp_path / "s", policy=ALL_PASSES)
    assert not moments, "all of it has happened"
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.may_have_missed
    assert any("no way to notice" in x for x in report.warnings)


@pytest.mark.parametrize("every", [1, 10, 100])
def test_a_balloon_that_goes_both_ways_all_along(hv: StubBackend, tmp_path: Path, every: int) -> None:
    text = f"pvh:mem=8M,max_mem=12M,holes=0.2,writes=20,balloon=2,balloon_every={every}"
    domid = created(hv, text, compact=False)
    report = save_hvm(hv, domid, tmp_path / "s")
    assert wrong_pages(hv, domid, tmp_path / "s") == []
    assert report.physmap.may_have_missed and report.physmap.sent_again >= (every == 1)
    assert report.to_dict()["physmap"]["sent_again"] == report.physmap.sent_again


# -- what is refused


def test_too_far_out(hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that has something mapped far out in its address space would make a stream of holes."""
    domid = created(hv, "pvh:mem=8M")
    monkeypatch.setattr(hv, "nr_gpfns", lambda domid: 1 << 36)
    with pytest.raises(GuestStateError, match="mapped far out") as caught:
        save_hvm(hv, domid, tmp_path / "s")
    assert caught.value.facts["value"] == 1 << 36
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty


def test_populated_on_demand_is_waited_for(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod, "SECONDS", 0.3)
    domid = created(hv, "pvh:mem=8M,pod=2M")
    with pytest.raises(NotSupported, match="populated on demand") as caught:
        save_hvm(hv, domid, tmp_path / "s")
    assert caught.value.facts["pod_entries"] == 512
    assert hv.stub.guest(domid).running, "and nobody touched it"
    assert hv.pod_target(domid).entries == 512


def test_passthrough_is_said_in_these_words(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "hvm:mem=8M")
    guest = hv.stub.guest(domid)
    guest.poke_domain("assigned_devices", 1)
    with pytest.raises(HypervisorError, match=r"device.*assigned") as caught:
        save_hvm(hv, domid, tmp_path / "s")
    assert "--no-live" in str(caught.value)
    assert guest.running
    save_hvm(hv, domid, tmp_path / "s", live=False)
    judge_hvm(hv, domid, tmp_path / "s", xen=False)


def test_a_guest_that_does_not_answer(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "pvh:mem=4M,suspend=ignore")
    suspend = pyxcsr.XenstoreSuspend(hv, domid, timeout=0.2)
    with pytest.raises(SuspendError):
        save_hvm(hv, domid, tmp_path / "s", suspend=suspend)
    assert hv.stub.guest(domid).running and not hv.stub.guest(domid).state().logdirty


# -- each call fails

CALLS = {
    "xc_domain_getinfolist": errno.EPERM,
    "xc_domain_nr_gpfns": errno.EINVAL,
    "xc_domain_get_pod_target": errno.EINVAL,
    "xc_hvm_param_get": errno.EINVAL,
    "xc_domain_hvm_getcontext": errno.ENOMEM,
    "xc_domain_get_tsc_info": errno.EFAULT,
    "xc_get_pfn_type_batch": errno.EINVAL,
    "xenforeignmemory_map": errno.ENOMEM,
    "xc_logdirty_control": errno.ENOMEM,
    "xc_cpu_policy_serialise": errno.ENOBUFS,
    "xs_write": errno.EIO,
}


@pytest.mark.parametrize("function", CALLS)
def test_each_call_fails(hv: StubBackend, tmp_path: Path, function: str) -> None:
    """At its first and third place; the guest runs on, nothing is tracked or held, and the next save is right."""
    domid = created(hv, "hvm:mem=2M,devmodel=5")
    guest = hv.stub.guest(domid)
    for nth in (1, 3):
        hv.stub.clear_calls()
        hv.stub.fail(function, nth, CALLS[function])
        model = ToldDeviceModel(guest)
        what, suspended = f"{function} #{nth}", True
        try:
            save_hvm(hv, domid, tmp_path / "s", device_model=model, policy=SimplePolicy(max_iterations=1))
        except pyxcsr.XcsrError:
            suspended = False
            assert guest.running, f"{what}: the guest stays suspended"
        hv.stub.clear_failures()
        state = guest.state()
        assert not state.logdirty and not state.paused and hv.stub.leaks() == {}, what
        assert model.told in ([], [True, False]), what
        if suspended:
            hv.domain_resume(domid)
    save_hvm(hv, domid, tmp_path / "s", policy=SimplePolicy(max_iterations=1))
    assert wrong_pages(hv, domid, tmp_path / "s") == []


# -- streams that are wrong


def without(path: Path, *names: str) -> Path:
    """The stream again, without the records of these names."""
    from pyxcsr.stream.reader import StreamReader
    from pyxcsr.stream.records import domain_header, frame, image_header

    out = path.with_name("without")
    with open(path, "rb") as stream:
        reader = StreamReader(stream)
        kept = [frame(x) for x in reader if x.name not in names]
        head = image_header() + domain_header(reader.domain_header.type, 4, 17)
    out.write_bytes(head + b"".join(kept))
    return out


@pytest.mark.parametrize("name", ["HVM_CONTEXT", "X86_TSC_INFO", "PAGE_DATA", "HVM_PARAMS"])
def test_a_stream_that_lacks_something(hv: StubBackend, tmp_path: Path, name: str) -> None:
    domid = created(hv, "pvh:mem=2M")
    save_hvm(hv, domid, tmp_path / "s", live=False)
    hv.domain_destroy(domid)
    with pytest.raises(pyxcsr.XcsrError, match=r"incomplete"):
        restored(hv, without(tmp_path / "s", name), "pvh", "2M")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ([(13, 1)], "DM_DOMAIN"),
        ([(99, 1)], "there is no parameter 99"),
        ([(hvm_params.STORE_PFN, 1 << 60)], "STORE_PFN"),
        ([(hvm_params.CALLBACK_IRQ, 7)], "not a receiver's to set"),
    ],
)
def test_params_that_may_not_be_set(hv: StubBackend, tmp_path: Path, params: Any, says: str) -> None:
    from pyxcsr.stream.records import End, HvmParams, frame

    domid = created(hv, "pvh:mem=2M")
    save_hvm(hv, domid, tmp_path / "s", live=False)
    hv.domain_destroy(domid)
    whole = (tmp_path / "s").read_bytes()
    end = frame(End())
    (tmp_path / "bad").write_bytes(whole[: -len(end)] + frame(HvmParams(params)) + end)
    with pytest.raises(pyxcsr.StreamError, match=says):
        restored(hv, tmp_path / "bad", "pvh", "2M")


@pytest.mark.parametrize("at", [0, 8, 34])
def test_a_context_that_makes_no_sense(hv: StubBackend, tmp_path: Path, at: int) -> None:
    """Its structure is checked before Xen sees it."""
    domid = created(hv, "pvh:mem=2M")
    save_hvm(hv, domid, tmp_path / "s", live=False)
    context = hv.hvm_context(domid)
    hv.domain_destroy(domid)
    whole = bytearray((tmp_path / "s").read_bytes())
    where = whole.find(context)
    assert where > 0
    whole[where + at] ^= 0xFF
    (tmp_path / "bad").write_bytes(whole)
    hv.stub.clear_calls()
    with pytest.raises(pyxcsr.StreamError, match="HVM_CONTEXT"):
        restored(hv, tmp_path / "bad", "pvh", "2M")
    assert not hv.stub.calls().get("xc_domain_hvm_setcontext")


def test_a_page_table_has_no_place_in_it(hv: StubBackend, tmp_path: Path) -> None:
    domid = created(hv, "pvh:mem=2M,writes=0")
    save_hvm(hv, domid, tmp_path / "s", live=False)
    hv.domain_destroy(domid)
    whole = bytearray((tmp_path / "s").read_bytes())
    entry = (PageType.NOTAB << 60 | 7).to_bytes(8, "little")
    at = whole.find(entry + (8).to_bytes(8, "little"))
    assert at > 0
    whole[at + 7] |= PageType.L1TAB << 4
    (tmp_path / "bad").write_bytes(whole)
    with pytest.raises(pyxcsr.StreamError):
        restored(hv, tmp_path / "bad", "pvh", "2M")
