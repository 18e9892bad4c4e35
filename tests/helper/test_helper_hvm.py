"""The real program with an HVM guest of the stub: what can be amiss with device model, PV driver and parameters."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_libxl import HERE, FakeLibxl, Message
from test_helper_stub import problems_of

import pyxcsr
from pyxcsr.helper import resuming
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.suspend import going_on

HVM = "hvm:mem=4M,writes=20,devmodel=5,compact=yes"
RUNS = {"running": True, "shutdown_reason": None, "logdirty": False, "devmodel_logdirty": False}
SUSPENDED = {**RUNS, "running": False, "shutdown_reason": 2}
SWITCH = "switch_qemu_logdirty"


def watched(tmp_path: Path, guest: str = HVM, **more: Any) -> FakeLibxl:
    """The helper, and the guest that it leaves."""
    env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": guest, **more.pop("env", {})}
    return FakeLibxl(tmp_path, program=[sys.executable, str(HERE / "watched.py")], env=env, **more)


def left(tmp_path: Path) -> dict[str, object]:
    """The guest once libxl has been told the result."""
    state: dict[str, object] = json.loads((tmp_path / "record").read_text())
    return state


def serve(libxl: FakeLibxl, answers: list[int]) -> int:
    """Plays libxl to the end, with an answer for each switch of the device model; returns the exit status."""
    while True:
        message = libxl.next_message()
        if message.name == SWITCH:
            libxl.answer(answers.pop(0))
        elif message.name == "suspend":
            libxl.answer(1)
        elif message.name == "complete":
            return libxl.finish()


def switches(libxl: FakeLibxl) -> list[object]:
    """What was asked of the device model."""
    return [m.fields[1] for m in libxl.messages if m.name == SWITCH]


@pytest.mark.parametrize("guest", [HVM, f"{HVM},pv_drivers=no", "pvh:mem=4M,compact=yes"])
def test_saved(tmp_path: Path, guest: str) -> None:
    """With a driver, without one, and without a device model, for which libxl is asked nothing."""
    with watched(tmp_path, guest) as libxl:
        assert serve(libxl, [0, 0]) == 0
        assert libxl.completed == (0, 0)
        assert switches(libxl) == ([] if guest.startswith("pvh") else [1, 0]) and libxl.logged(7) == []
        assert problems_of(tmp_path, bytes(libxl.stream)) == []
    assert left(tmp_path) == SUSPENDED


def test_not_live_the_device_model_is_left_alone(tmp_path: Path) -> None:
    with watched(tmp_path, xcflags=0) as libxl:
        assert serve(libxl, []) == 0
        assert libxl.completed == (0, 0)
    assert left(tmp_path) == SUSPENDED


def test_a_device_model_that_does_not_begin(tmp_path: Path) -> None:
    """It is not told to stop, which would be the end of QEMU if it has not begun; Xen's own helper does not, either."""
    with watched(tmp_path) as libxl:
        assert serve(libxl, [-1]) == 0
        assert libxl.completed[0] == -1
        assert switches(libxl) == [1]
        (text,) = libxl.logged(8)
        assert "device model begin to tell which pages it writes (answer -1); its own messages say why" in text
        assert all(m.name != "suspend" for m in libxl.messages)
        assert problems_of(tmp_path, bytes(libxl.stream)) != []
    assert left(tmp_path) == RUNS


def test_a_device_model_that_stops_at_the_second_attempt(tmp_path: Path) -> None:
    with watched(tmp_path) as libxl:
        assert serve(libxl, [0, -1, 0]) == 0
        assert libxl.completed == (0, 0) and libxl.logged(7) == []
        assert switches(libxl) == [1, 0, 0]
    assert left(tmp_path) == SUSPENDED


def test_a_device_model_that_does_not_stop(tmp_path: Path) -> None:
    """The stream is complete, and the guest at its end: that is a warning."""
    with watched(tmp_path) as libxl:
        assert serve(libxl, [0, -1, -1]) == 0
        assert libxl.completed == (0, 0)
        (text,) = libxl.logged(7)
        assert "device model stop to tell which pages it writes (answer -1)" in text
        assert problems_of(tmp_path, bytes(libxl.stream)) == []
    assert left(tmp_path) == {**SUSPENDED, "devmodel_logdirty": True}


def test_what_an_aborted_save_leaves_on_is_said(tmp_path: Path) -> None:
    with watched(tmp_path) as libxl:
        libxl.next_named(SWITCH)
        libxl.terminate()
        libxl.answer(0)
        assert serve(libxl, [-1]) == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        (text,) = libxl.logged(8)
        assert "SIGTERM" in text and text.count("device model stop to tell which pages it writes (answer -1)") == 1
    assert left(tmp_path) == {**RUNS, "devmodel_logdirty": True}


def test_aborted_while_libxl_waits_for_qemu(tmp_path: Path) -> None:
    """The answer is awaited: libxl sends it to whoever reads."""
    with watched(tmp_path) as libxl:
        libxl.next_named(SWITCH)
        libxl.terminate()
        with pytest.raises(TimeoutError):
            libxl.next_message(timeout=0.3)
        libxl.answer(0)
        assert serve(libxl, [0]) == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert switches(libxl) == [1, 0]
    assert left(tmp_path) == RUNS


def test_libxl_goes_away_instead_of_answering(tmp_path: Path) -> None:
    """It is not known what it has told QEMU; Xen's own tracking ends."""
    with watched(tmp_path) as libxl:
        libxl.next_named(SWITCH)
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "closed the pipe instead of answering" in libxl.stderr and "Traceback" not in libxl.stderr
    assert left(tmp_path) == RUNS


@pytest.mark.parametrize("call", ["xc_hvm_param_get:1", "xc_hvm_param_get:9", "xc_domain_hvm_getcontext:1",
                                  "xc_domain_nr_gpfns:1", "xc_domain_get_pod_target:1"])  # fmt: skip
def test_what_xen_does_not_tell_is_found_out_while_the_guest_runs(tmp_path: Path, call: str) -> None:
    with watched(tmp_path, env={"WATCHED_FAIL": f"{call}:{errno.EINVAL}"}) as libxl:
        assert serve(libxl, [0, 0]) == 0
        assert libxl.completed == (-1, errno.EINVAL)
        (text,) = libxl.logged(8)
        assert "domain" in text and call.split(":", maxsplit=1)[0] in text
        assert Message("suspend", ()) not in libxl.messages
        assert switches(libxl) in ([], [1, 0])
    assert left(tmp_path) == RUNS


def test_what_xen_does_not_tell_of_a_suspended_guest(tmp_path: Path) -> None:
    """A guest that libxl suspended is libxl's to resume; all else has ended."""
    with watched(tmp_path, env={"WATCHED_FAIL": f"xc_hvm_param_get:36:{errno.EINVAL}"}) as libxl:
        assert serve(libxl, [0, 0]) == 0
        assert libxl.completed == (-1, errno.EINVAL)
        assert Message("suspend", ()) in libxl.messages and switches(libxl) == [1, 0]
        assert problems_of(tmp_path, bytes(libxl.stream)) != []
    assert left(tmp_path) == SUSPENDED


# -- a save that fails behind a program that does not resume the guest

FAILS = "xc_domain_hvm_getcontext:{}:" + str(errno.EIO)
"""The guest is suspended when a live save calls that for the third time, of a PVH guest for the fifth; if it is not
live, for the first."""
NOTE = "the save has failed, and the guest goes on (PYXCSR_RESUME)"


@pytest.mark.parametrize("guest", [HVM, f"{HVM},pv_drivers=no", "pvh:mem=4M,compact=yes"])
@pytest.mark.parametrize(
    ("asked", "live", "goes_on"),
    [("yes", 0, True), ("no", 0, False), ("", 0, False), ("yes", 1, True), ("no", 1, False)],
)
def test_who_resumes_the_guest(tmp_path: Path, guest: str, asked: str, live: int, goes_on: bool) -> None:
    """libxl, unless the helper is asked to: libvirt does not, neither after a save nor after a migration."""
    fails = FAILS.format((5 if guest.startswith("pvh") else 3) if live else 1)
    with watched(tmp_path, guest, xcflags=live, env={"WATCHED_FAIL": fails, "PYXCSR_RESUME": asked}) as libxl:
        assert serve(libxl, [0, 0]) == 0
        assert libxl.completed[0] == -1
        assert [NOTE in x for x in libxl.logged(7)] == [True] * goes_on
    assert left(tmp_path) == (RUNS if goes_on else SUSPENDED)


def test_a_guest_that_cannot_be_resumed_is_said_to_be_suspended(tmp_path: Path) -> None:
    fails = ",".join([FAILS.format(1), *(f"xc_domain_resume:{n}:{errno.EIO}" for n in (1, 2))])
    with watched(tmp_path, xcflags=0, env={"WATCHED_FAIL": fails, "PYXCSR_RESUME": "yes"}) as libxl:
        assert serve(libxl, []) == 0
        assert libxl.completed == (-1, errno.EIO)
        (text,) = libxl.logged(8)
        assert "xc_domain_hvm_getcontext" in text and text.count("may still be suspended") == 1
    assert left(tmp_path) == SUSPENDED


def test_a_complete_save_leaves_the_guest_suspended(tmp_path: Path) -> None:
    with watched(tmp_path, xcflags=0, env={"PYXCSR_RESUME": "yes"}) as libxl:
        assert serve(libxl, []) == 0
        assert libxl.completed == (0, 0) and libxl.logged(7) == []
    assert left(tmp_path) == SUSPENDED


def test_a_guest_that_stays_suspended_is_not_said_to_go_on(hv: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    said: list[str] = []
    suspend = resuming.Resuming(hv, domid, lambda: None, said.append)
    suspend()
    with monkeypatch.context() as patch, pytest.raises(pyxcsr.SuspendError, match="it is still suspended"):
        patch.setattr(going_on, "let_go_on", lambda *_: None)
        suspend.resume()
    assert said == []
    suspend.resume()
    assert len(said) == 1 and NOTE in said[0] and hv.stub.guest(domid).running


def test_a_guest_that_somebody_else_has_suspended_is_left_to_them(hv: StubBackend, tmp_path: Path) -> None:
    """By a migration of another toolstack's, say: its copy may run by the time that this save fails."""
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    said: list[str] = []
    suspend = resuming.Resuming(hv, domid, lambda: pytest.fail("it is not asked any more"), said.append)

    phases: list[str] = []

    def others() -> bool:
        if "pass" not in phases:
            return False
        hv.stub.guest(domid).shut_down(2)
        return True

    with open(tmp_path / "s", "wb") as out, pytest.raises(pyxcsr.Cancelled):
        pyxcsr.save(
            hv, domid, out, suspend=suspend, cancel=others, progress=lambda now: phases.append(now.phase)
        )
    assert hv.domain_info(domid).suspended
    assert len(said) == 1 and "is left to them" in said[0]
