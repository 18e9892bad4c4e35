"""What a Python user gives that is not of the right kind: refused with advice, before the guest is touched."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from pyxcsr.hypervisor.open import StubBackend


@pytest.fixture
def domid(hv: StubBackend) -> int:
    return hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))


def untouched(hv: StubBackend, domid: int) -> bool:
    return hv.stub.guest(domid).running and "xc_logdirty_control" not in hv.stub.calls()


@pytest.mark.parametrize(
    ("out", "advice"),
    [
        ("guest.stream", r'open\(PATH, "wb"\)'),
        (b"guest.stream", r'open\(PATH, "wb"\)'),
        (Path("guest.stream"), r'open\(PATH, "wb"\)'),
        (io.BytesIO(), "TemporaryFile"),
        (io.StringIO(), "TemporaryFile"),
        (None, "fileno"),
        (True, "is none"),
        (-1, "is none"),
        (1.0, "fileno"),
    ],
)
def test_an_output(hv: StubBackend, domid: int, tmp_path: Path, monkeypatch: Any, out: Any, advice: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pyxcsr.UsageError, match=advice):
        pyxcsr.save(hv, domid, out)
    assert untouched(hv, domid) and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("guest.stream", r'open\(PATH, "rb"\)'),
        (Path("guest.stream"), r'open\(PATH, "rb"\)'),
        (io.BytesIO(b"x"), "TemporaryFile"),
        (None, "fileno"),
        (-1, "is none"),
    ],
)
def test_an_input(hv: StubBackend, given: Any, advice: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=advice):
        pyxcsr.restore(hv, hv.stub.create_empty("4M"), given)


NO_INPUTS = ["guest.stream", Path("guest.stream"), None, -1, True, b"Xen", io.StringIO(), object()]


@pytest.mark.parametrize("given", NO_INPUTS)
def test_an_input_to_read(given: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match=r'open\(PATH, "rb"\)|no file descriptor'):
        pyxcsr.StreamReader(given)


def test_a_closed_file(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    with open(tmp_path / "s", "wb") as out:
        pass
    with pytest.raises(pyxcsr.OutputError, match="closed file"):
        pyxcsr.save(hv, domid, out)
    with open(tmp_path / "s", "rb") as stream:
        pass
    with pytest.raises(pyxcsr.InputError, match="closed file"):
        pyxcsr.restore(hv, hv.stub.create_empty("4M"), stream)
    assert untouched(hv, domid)


def test_what_python_has_read_ahead_is_restored(hv: StubBackend, domid: int, tmp_path: Path) -> None:
    """A stream that begins in the middle of a file, found by reading what stands before it."""
    with open(tmp_path / "s", "wb") as out:
        out.write(b"a header\n")
        pyxcsr.save(hv, domid, out)
    with open(tmp_path / "s", "rb") as stream:
        assert stream.readline() == b"a header\n"
        assert pyxcsr.restore(hv, hv.stub.create_empty("8M"), stream).pages > 0


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"policy": pyxcsr.Decision.STOP_AND_COPY}, "policy is .*PrecopyStats"),
        ({"policy": 5}, "policy is 5"),
        ({"progress": True}, "progress is True"),
        ({"cancel": False}, "cancel is False.*is_set"),
        ({"complete": "resume"}, "complete is 'resume'"),
        ({"suspend": 1}, "suspend is 1"),
        ({"live": "no"}, "live is 'no', not True or False"),
        ({"verify": 1}, "verify is 1, not True or False"),
        ({"durable": "yes"}, "durable is 'yes'"),
        ({"p2m_changes": "ignore"}, "follow, abort"),
        ({"p2m_changes": []}, "follow, abort"),
        ({"p2m_limits": 10}, "pyxcsr.P2mLimits"),
        ({"map_ahead": "auto"}, "map_ahead is 'auto'"),
        ({"device_model": "qemu"}, "device_model"),
        ({"compress": True}, 'compress is True: give "zstd"'),
        ({"compress": b"zstd"}, "compress is b'zstd'"),
    ],
)
def test_an_option(hv: StubBackend, domid: int, options: dict[str, Any], advice: str) -> None:
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.UsageError, match=advice):
        pyxcsr.save(hv, domid, out, **options)
    assert untouched(hv, domid)


@pytest.mark.parametrize("name", ["guest", 1.0, None, True, 0])
def test_a_domid(hv: StubBackend, name: Any) -> None:
    with open("/dev/null", "r+b") as file:
        for use in (
            lambda: pyxcsr.save(hv, name, file),
            lambda: pyxcsr.restore(hv, name, file),
            lambda: pyxcsr.recover(hv, name),
            lambda: pyxcsr.XenstoreSuspend(hv, name),
        ):
            with pytest.raises(pyxcsr.UsageError, match="domain 0" if name == 0 else "give its id"):
                use()


@pytest.mark.parametrize("wrong", ["stub", None, StubBackend, pyxcsr.StubGuest.pv64()])
def test_a_hypervisor(wrong: Any) -> None:
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.UsageError, match="open_hypervisor"):
        pyxcsr.save(wrong, 1, out)
    with pytest.raises(pyxcsr.UsageError, match="open_hypervisor"):
        pyxcsr.recover(wrong, 1)


@pytest.mark.parametrize("name", ["sutb", "", None, 1])
def test_a_backend(name: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match="xen and stub"):
        pyxcsr.open_hypervisor(name)


@pytest.mark.parametrize("numbers", [(0,), (-1,), (2.5,), ("5",), (True,), (5, -1), (5, None)])
def test_a_policys_numbers(numbers: tuple[Any, ...]) -> None:
    with pytest.raises(pyxcsr.XcsrError, match=r"max_iterations|target_dirty"):
        pyxcsr.SimplePolicy(*numbers)


@pytest.mark.parametrize("answer", [None, True, 0, "stop", "stop-and-copy"])
def test_an_answer_that_is_no_decision(hv: StubBackend, domid: int, answer: Any) -> None:
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.UsageError, match="the guest goes on"):
        pyxcsr.save(hv, domid, out, policy=lambda stats: answer)
    assert hv.stub.guest(domid).running and hv.stub.leaks() == {}


def test_who_ended_a_save(hv: StubBackend, domid: int) -> None:
    with open("/dev/null", "wb") as out:
        with pytest.raises(pyxcsr.Cancelled, match="the policy ended") as by_policy:
            pyxcsr.save(hv, domid, out, policy=lambda stats: pyxcsr.Decision.ABORT)
        with pytest.raises(pyxcsr.Cancelled, match="was cancelled") as by_caller:
            pyxcsr.save(hv, domid, out, cancel=lambda: True)
    assert (by_policy.value.by, by_caller.value.by) == ("policy", "caller")
    assert by_policy.value.facts["by"] == "policy" and by_caller.value.facts["by"] == "caller"


@pytest.mark.parametrize(
    "options",
    [
        {"store_evtchn": "1"},
        {"store_evtchn": 1 << 32},
        {"console_domid": -1},
        {"console_domid": 0x7FF0},
        {"progress": 1},
        {"cancel": "no"},
        {"static_data_done": True},
    ],
)
def test_an_option_of_a_restore(hv: StubBackend, options: dict[str, Any]) -> None:
    with open("/dev/null", "rb") as file, pytest.raises(pyxcsr.UsageError, match=next(iter(options))):
        pyxcsr.restore(hv, hv.stub.create_empty("4M"), file, **options)


def test_an_option_of_a_recovery(hv: StubBackend, domid: int) -> None:
    with pytest.raises(pyxcsr.UsageError, match="resume is 'no'"):
        pyxcsr.recover(hv, domid, resume="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["guest.stream", io.BytesIO(), None])
def test_what_is_no_reader(given: Any) -> None:
    with pytest.raises(pyxcsr.UsageError, match="StreamReader"):
        pyxcsr.verify(given)


@pytest.mark.parametrize("size", [1.5, None, True, [], "much", "9" * 5000, f"0.{'9' * 5000}G"])
def test_a_size(hv: StubBackend, size: Any) -> None:
    for make in (lambda: pyxcsr.StubGuest.pv64(mem=size), lambda: hv.stub.create_empty(size)):
        with pytest.raises(pyxcsr.UsageError, match="is not a size"):
            make()


def test_a_described_guest(hv: StubBackend) -> None:
    wrong: Any
    for wrong in ("pv64:mem=4M", None, pyxcsr.StubGuest):
        with pytest.raises(pyxcsr.UsageError, match=r"StubGuest.parse\(TEXT\)"):
            hv.stub.create(wrong)
    for wrong in (None, 4, b"pv64"):
        with pytest.raises(pyxcsr.UsageError, match="pv64:mem=1G"):
            pyxcsr.StubGuest.parse(wrong)
    with pytest.raises(pyxcsr.UsageError, match="not a number of bytes"):
        pyxcsr.StubGuest(mem="64M")  # type: ignore[arg-type]


async def of_nothing() -> None:
    """What must not be given."""


async def of_one(value: object) -> None:
    """What must not be given."""


class Called:
    """An object that is called, with an async __call__."""

    async def __call__(self, *_: object) -> None:
        """Never run."""

    method = __call__


class AsyncSuspend(pyxcsr.Suspend):
    """One whose resume would never be run."""

    def __call__(self) -> None:
        """Would suspend the guest."""

    async def resume(self) -> None:  # type: ignore[override]
        """Never run."""


ASYNC = [of_nothing, of_one, functools.partial(functools.partial(of_one, 1)), Called(), Called().method,
         functools.partial(Called())]  # fmt: skip


@pytest.mark.parametrize("given", ASYNC, ids=range(len(ASYNC)))
def test_an_async_function_is_refused(hv: StubBackend, domid: int, given: Any) -> None:
    """It would be called and never run, and what it returns taken for True."""
    with open("/dev/null", "r+b") as file:
        for name in ("policy", "suspend", "progress", "cancel", "complete"):
            with pytest.raises(pyxcsr.UsageError, match=rf"^{name} is .*call_soon_threadsafe"):
                pyxcsr.save(hv, domid, file, **{name: given})
        for name in ("last", "postcopy", "checkpoint"):
            with pytest.raises(pyxcsr.UsageError, match=rf"^{name} is .*call_soon_threadsafe"):
                pyxcsr.Checkpointed(**{name: given})
        for name in ("progress", "cancel", "static_data_done", "checkpoint"):
            with pytest.raises(pyxcsr.UsageError, match=rf"^{name} is .*call_soon_threadsafe"):
                pyxcsr.restore(hv, domid, file, **{name: given}, checkpointed=True)
    with pytest.raises(pyxcsr.UsageError, match="call_soon_threadsafe"):
        pyxcsr.dirty_rate(hv, domid, cancel=given)
    with pytest.raises(pyxcsr.UsageError, match="call_soon_threadsafe"):
        pyxcsr.running(killed=given)
    with pytest.raises(pyxcsr.UsageError, match="call_soon_threadsafe"), hv.stub.hook(given):
        pass
    assert untouched(hv, domid)


def test_a_suspend_with_an_async_method_is_refused(hv: StubBackend, domid: int) -> None:
    with open("/dev/null", "wb") as out, pytest.raises(pyxcsr.UsageError, match=r"suspend\.resume is .*async"):
        pyxcsr.save(hv, domid, out, suspend=AsyncSuspend())
    assert untouched(hv, domid)
