"""The real program, run as libxl runs it, on a fake core: what goes over the pipes in every case."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fake_libxl import (
    CBFLAGS,
    PACKAGE_PARENT,
    PROGRAM,
    REMUS_CBFLAGS,
    SUSPEND_BIT,
    WITH_FAKE_CORE,
    FakeLibxl,
    Message,
    ProtocolError,
    decode,
)

from pyxcsr.policy import DEFAULT_P2M_CHANGES

STREAM_SIZE = 256 * 4096


def record(tmp_path: Path) -> dict[str, object]:
    return json.loads((tmp_path / "record").read_text())


def fake(tmp_path: Path, what: str = "good", **more: object) -> FakeLibxl:
    env = {"FAKE_SAVE": what, **more.pop("env", {})}
    return FakeLibxl(tmp_path, env=env, **more)


def test_the_device_model_is_told_through_libxl(tmp_path: Path) -> None:
    with fake(tmp_path, env={"FAKE_HVM": "hvm"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        told = [m for m in libxl.messages if m.name == "switch_qemu_logdirty"]
        assert told == [Message("switch_qemu_logdirty", (7, 1)), Message("switch_qemu_logdirty", (7, 0))]


def test_a_qemu_that_is_no_device_model_is_told_nothing(tmp_path: Path) -> None:
    """libxl would answer for a PVH guest, too, and tell its QEMU nothing, if it has one."""
    with fake(tmp_path, env={"FAKE_HVM": "pvh"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert all(m.name != "switch_qemu_logdirty" for m in libxl.messages)


def test_a_device_model_that_does_not_answer_ends_the_save(tmp_path: Path) -> None:
    with fake(tmp_path, env={"FAKE_HVM": "hvm"}) as libxl:
        assert libxl.serve(qemu=-1) == 0
        assert libxl.completed[0] == -1
        assert "device model" in libxl.logged(8)[0] and "-1" in libxl.logged(8)[0]
        assert all(m.name != "suspend" for m in libxl.messages)


@pytest.mark.parametrize(("kind", "xcflags", "goes"), [("hvm", 1, False), ("hvm", 0, True), ("pvh", 1, True)])
def test_a_libxl_that_does_not_take_the_message(tmp_path: Path, kind: str, xcflags: int, goes: bool) -> None:
    """What a device model writes during a live save would be lost."""
    with fake(tmp_path, env={"FAKE_HVM": kind}, cbflags=SUSPEND_BIT, xcflags=xcflags) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == ((0, 0) if goes else (-1, errno.EINVAL))
        assert all(m.name != "switch_qemu_logdirty" for m in libxl.messages)
        assert goes or ("device model" in libxl.logged(8)[0] and libxl.stream == b"")


@pytest.mark.parametrize("xcflags", [0, 1])
@pytest.mark.parametrize(("kind", "goes"), [("hvm", False), ("pvh", True)])
def test_a_guest_that_is_suspended_already(tmp_path: Path, kind: str, goes: bool, xcflags: int) -> None:
    """libxl would not be asked to suspend it, take no device model's state, and send the one of a former save."""
    with fake(tmp_path, env={"FAKE_HVM": kind, "FAKE_SUSPENDED": "1"}, xcflags=xcflags) as libxl:
        assert libxl.serve() == 0
        assert (libxl.completed[0] == 0) is goes
        assert goes or ("pyxcsr recover 7" in libxl.logged(8)[0] and libxl.stream == b"")


def test_it_is_handed_over_where_asked_for(tmp_path: Path) -> None:
    stock = tmp_path / "stock"
    stock.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/seen\nexit 7\n')
    stock.chmod(0o755)
    with fake(tmp_path, env={"PYXCSR_SAVE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}) as libxl:
        assert libxl.exit_status() == 7, "it is the stock helper that exits"
        assert (tmp_path / "seen").read_text().split() == libxl.process.args[-7:]


def test_who_saves_must_be_known(tmp_path: Path) -> None:
    with fake(tmp_path, env={"PYXCSR_SAVE": "other"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EINVAL)
        assert "PYXCSR_SAVE is 'other'" in libxl.logged(8)[0]


def test_success(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert [m for m in libxl.messages if m.name != "log"] == [
            Message("progress", ("pyxcsr", "live pass 0", 0, 256)),
            Message("progress", ("pyxcsr", "live pass 0", 256, 256)),
            Message("progress", ("pyxcsr", "live pass 1", 0, 256)),
            Message("progress", ("pyxcsr", "live pass 1", 256, 256)),
            Message("suspend", ()),
            Message("complete", (0, 0)),
        ]
        assert len(libxl.stream) == STREAM_SIZE
        assert libxl.logged(8) == []
        assert libxl.logged(5) == ["domain 7: 3 passes, 768 pages, 1.0 MiB in 1.50 s, paused 0.250 s"]
        assert libxl.stderr == ""
    assert record(tmp_path) == {
        "backend": "xen", "domid": 7, "live": True, "verify": False, "policy": None, "limits": "Limits()",
        "has_resume": False, "p2m_changes": DEFAULT_P2M_CHANGES,
        "cleaned_up": True, "hypervisor_closed": True, "core_was_loaded": True, "left": [0, "mapped still"],
    }


def test_warnings_go_into_xls_log(tmp_path: Path) -> None:
    with fake(tmp_path, env={"FAKE_WARNINGS": "pages-may-be-missing"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert libxl.logged(7) == ["domain 7: pages-may-be-missing"]


def test_not_live(tmp_path: Path) -> None:
    with fake(tmp_path, xcflags=0, domid=0x7FEF) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
    assert record(tmp_path)["live"] is False
    assert record(tmp_path)["domid"] == 0x7FEF


def test_policy_from_the_environment(tmp_path: Path) -> None:
    env = {"PYXCSR_MAX_ITERATIONS": "12", "PYXCSR_TARGET_DIRTY": "0", "PYXCSR_POLICY": "libxc"}
    with fake(tmp_path, env=env) as libxl:
        assert libxl.serve() == 0
    told = record(tmp_path)
    assert (told["limits"], told["policy"]) == ("Limits(max_iterations=12, target_dirty=0)", "libxc")


EVERY_LIMIT = {
    "PYXCSR_MAX_DOWNTIME": "300ms", "PYXCSR_TIMEOUT": "2m", "PYXCSR_ON_TIMEOUT": "suspend", "PYXCSR_BANDWIDTH": "100M",
    "PYXCSR_BANDWIDTH_WHILE_PAUSED": "yes", "PYXCSR_ABORT_IF_BUSY": "1", "PYXCSR_POLICY": "adaptive",
}  # fmt: skip


def test_limits_from_the_environment(tmp_path: Path) -> None:
    with fake(tmp_path, env=EVERY_LIMIT) as libxl:
        assert libxl.serve() == 0
    assert record(tmp_path)["limits"] == (
        "Limits(abort_if_busy=True, bandwidth=104857600, bandwidth_while_paused=True, max_downtime=0.3, "
        "on_timeout='suspend', timeout=120.0)"
    )


def test_xl_save_is_not_stopped_by_limits_for_live_saves(tmp_path: Path) -> None:
    """It always suspends the guest first, and whoever sets the variables for all may not know that."""
    with fake(tmp_path, env=EVERY_LIMIT, xcflags=0) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
    assert record(tmp_path)["limits"] == "Limits(bandwidth=104857600, bandwidth_while_paused=True)"


@pytest.mark.parametrize("word", ["follow", "abort", ""])
def test_what_becomes_of_a_changing_p2m(tmp_path: Path, word: str) -> None:
    with fake(tmp_path, env={"PYXCSR_P2M_CHANGES": word}) as libxl:
        assert libxl.serve() == 0
    assert record(tmp_path)["p2m_changes"] == (word or DEFAULT_P2M_CHANGES)


@pytest.mark.parametrize("answer", [-1, 2])
def test_any_answer_but_0_means_suspended(tmp_path: Path, answer: int) -> None:
    with fake(tmp_path) as libxl:
        libxl.serve(suspend=answer)
        assert libxl.completed == (0, 0)


def test_suspend_refused(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        assert libxl.serve(suspend=0) == 0
        assert libxl.completed == (-1, errno.EIO)
        assert "did not get domain 7 to suspend" in libxl.logged(8)[0]
        assert len(libxl.stream) < STREAM_SIZE
    assert record(tmp_path)["cleaned_up"]


@pytest.mark.parametrize(
    ("what", "text", "number"),
    [
        ("not-supported", "domain 7 is HVM", errno.EOPNOTSUPP),
        ("eacces", "another release", errno.EACCES),
        ("no-log-dirty", "no shadow", errno.EOPNOTSUPP),
        ("p2m", "generation count changed", errno.EAGAIN),
        ("output", "no space", errno.ENOSPC),
        ("dying", "dying", errno.ESRCH),
        ("plain", "something", errno.EIO),
        ("no-backend", "no Xen here", errno.ENODEV),
        ("lines", "one two three", errno.EIO),
        ("memory", "out of memory", errno.ENOMEM),
    ],
)
def test_errors_of_save(tmp_path: Path, what: str, text: str, number: int) -> None:
    with fake(tmp_path, what) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, number)
        (logged,) = [m for m in libxl.messages if m.name == "log" and m.fields[0] == 8]
        assert text in str(logged.fields[3])
        assert logged.fields[1:3] == (number, "pyxcsr")
        assert libxl.stderr == ""
        assert all(m.name != "suspend" for m in libxl.messages)


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    with fake(tmp_path, "long") as libxl:
        assert libxl.serve() == 0
        (text,) = libxl.logged(8)
        assert text.endswith("é...")
        assert 8000 < len(text.encode()) <= 8192


@pytest.mark.parametrize(
    ("what", "name"), [("bug", "KeyError"), ("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")]
)
def test_an_unexpected_exception(tmp_path: Path, what: str, name: str) -> None:
    with fake(tmp_path, what) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EIO)
        assert name in libxl.logged(8)[0]
        assert "Traceback" in libxl.stderr
        assert "fake_save" in libxl.stderr


def test_stray_output_stays_out_of_the_protocol(tmp_path: Path) -> None:
    with fake(tmp_path, "stray") as libxl:
        assert libxl.serve() == 0  # every byte is decoded on the way
        assert libxl.completed == (0, 0)
        for text in ("stray print", "stray write", "stray sys.__stdout__", "stray child"):
            assert text in libxl.stderr


def test_progress_is_throttled(tmp_path: Path) -> None:
    with fake(tmp_path, "chatty") as libxl:
        libxl.serve()
        first = [m for m in libxl.messages if m.name == "progress" and m.fields[1] == "live pass 0"]
        assert 4 <= len(first) <= 9  # 0.55 s, the start and the end
    assert int(str(record(tmp_path)["reports"])) > 1000


FLAGS = [(0, False, False), (1, True, False), (2, False, True), (3, True, True)]


@pytest.mark.parametrize(("xcflags", "live", "verify"), FLAGS)
def test_xcflags(tmp_path: Path, xcflags: int, live: bool, verify: bool) -> None:
    with fake(tmp_path, xcflags=xcflags) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
    found = record(tmp_path)
    assert (found["live"], found["verify"]) == (live, verify)


REFUSED = [
    ({"stream_type": 1}, {}, errno.EINVAL, "no postcopy callback"),
    ({"stream_type": 1, "cbflags": CBFLAGS | 1 << 4}, {}, errno.EINVAL, "no checkpoint callback"),
    ({"stream_type": 1, "cbflags": REMUS_CBFLAGS, "xcflags": 0}, {}, errno.EINVAL, "begins live"),
    ({"stream_type": 2, "cbflags": REMUS_CBFLAGS | 1 << 6}, {}, errno.EOPNOTSUPP, "COLO (stream type 2) is not"),
    ({"stream_type": 9}, {}, errno.EOPNOTSUPP, "unknown"),
    ({"xcflags": 5}, {}, errno.EOPNOTSUPP, "0x4"),
    ({"cbflags": CBFLAGS & ~SUSPEND_BIT}, {}, errno.EINVAL, "no suspend callback"),
    ({}, {"PYXCSR_MAX_ITERATIONS": "0"}, errno.EINVAL, "PYXCSR_MAX_ITERATIONS"),
    ({}, {"PYXCSR_MAX_ITERATIONS": "five"}, errno.EINVAL, "PYXCSR_MAX_ITERATIONS"),
    ({}, {"PYXCSR_TARGET_DIRTY": "-1"}, errno.EINVAL, "PYXCSR_TARGET_DIRTY"),
    ({}, {"PYXCSR_TARGET_DIRTY": "1e3"}, errno.EINVAL, "PYXCSR_TARGET_DIRTY"),
    ({}, {"PYXCSR_MAX_DOWNTIME": "300"}, errno.EINVAL, "PYXCSR_MAX_DOWNTIME is '300': '300' has no unit"),
    ({}, {"PYXCSR_BANDWIDTH": "1Gbit"}, errno.EINVAL, "PYXCSR_BANDWIDTH"),
    ({}, {"PYXCSR_CONFIG": "/nowhere/x.conf"}, errno.EINVAL, "there is no settings file /nowhere/x.conf"),
    ({}, {"PYXCSR_P2M_CHANGES": "ignore"}, errno.EINVAL, "PYXCSR_P2M_CHANGES"),
    ({}, {"PYXCSR_RESUME": "always"}, errno.EINVAL, "PYXCSR_RESUME is 'always', not yes or no"),
    ({}, {"PYXCSR_BACKEND": "kvm"}, errno.EINVAL, "PYXCSR_BACKEND"),
    ({}, {"PYXCSR_BACKEND": "stub"}, errno.EINVAL, "PYXCSR_STUB_GUEST"),
    ({}, {"PYXCSR_STUB_GUEST": "pv64:mem=16M"}, errno.EINVAL, "PYXCSR_BACKEND=stub"),
]


@pytest.mark.parametrize(("arguments", "env", "number", "text"), REFUSED)
def test_refused_before_anything_is_touched(
    tmp_path: Path, arguments: dict[str, int], env: dict[str, str], number: int, text: str
) -> None:
    with fake(tmp_path, env=env, **arguments) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, number)
        assert text in libxl.logged(8)[0]
        assert libxl.stream == b""
    assert record(tmp_path) == {"core_was_loaded": False, "left": [0, "mapped still"]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "no arguments"),
        ("--sav-domain", "'--sav-domain'"),
        ("--save-domain", "6 arguments"),
        ("--save-domain 9 -1 7 1 136", "not 5"),
        ("--save-domain 9 -1 7 1 136 0 0", "not 7"),
        ("--save-domain x -1 7 1 136 0", "STREAM_FD is 'x'"),
        ("--save-domain 1 -1 7 1 136 0", "STREAM_FD 1"),
        ("--save-domain 9 -2 7 1 136 0", "BACK_FD"),
        ("--save-domain 9 -1 0x7 1 136 0", "DOMID is '0x7'"),
        ("--save-domain 9 -1 32752 1 136 0", "DOMID is 32752"),
        ("--save-domain 9 -1 7 -1 136 0", "XCFLAGS"),
        ("--save-domain 9 -1 7 1 4294967296 0", "CBFLAGS"),
        (f"--save-domain 9 -1 7 1 136 {'9' * 5000}", "STREAM_TYPE"),
        ("--save-domain 9 -1 7 1 136 \N{SUPERSCRIPT TWO}", "STREAM_TYPE"),
    ],
)
def test_bad_arguments(tmp_path: Path, words: str, text: str) -> None:
    with FakeLibxl(tmp_path, program=PROGRAM, arguments=words.split()) as libxl:
        assert libxl.at_end(), "nothing may be written to stdout"
        assert libxl.exit_status() == 2
        assert text in libxl.stderr
        assert "usage:" in libxl.stderr
        assert "Traceback" not in libxl.stderr


@pytest.mark.parametrize("fd", [3, 4])
def test_a_stream_fd_that_is_not_open(tmp_path: Path, fd: int) -> None:
    """It is free: it would be one of the private copies of stdin and stdout were it checked after them."""
    program = ["sh", "-c", 'exec 3>&- 4>&-; exec "$@"', "sh", *WITH_FAKE_CORE]
    words = ["--save-domain", str(fd), "-1", "7", "1", "136", "0"]
    with FakeLibxl(tmp_path, program=program, arguments=words) as libxl:
        libxl.serve()
        assert libxl.completed == (-1, errno.EBADF)
        assert libxl.logged(8) == [f"STREAM_FD {fd}: Bad file descriptor"]


def test_a_stream_fd_that_cannot_be_written(tmp_path: Path) -> None:
    program = ["sh", "-c", 'exec 9</dev/zero; exec "$@"', "sh", *WITH_FAKE_CORE]
    words = ["--save-domain", "9", "-1", "7", "1", "136", "0"]
    with FakeLibxl(tmp_path, program=program, arguments=words) as libxl:
        libxl.serve()
        assert libxl.completed == (-1, errno.EBADF)
        assert "reading only" in libxl.logged(8)[0]


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_abort_while_the_stream_is_stalled(tmp_path: Path, number: signal.Signals) -> None:
    with fake(tmp_path, "stall", read_stream=False) as libxl:
        libxl.next_named("log")
        time.sleep(0.3)  # the pipe is full by now
        start = time.monotonic()
        libxl.process.send_signal(number)
        libxl.next_named("complete")
        assert time.monotonic() - start < 5.0
        libxl.start_reading()
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert libxl.logged(8) == [f"cancelled ({number.name})"]
    assert record(tmp_path)["cleaned_up"]


@pytest.mark.alone
def test_sigterm_while_memory_is_copied(tmp_path: Path) -> None:
    with fake(tmp_path, "idle") as libxl:
        libxl.next_named("progress")
        start = libxl.terminate()
        libxl.terminate()  # libxl may say it twice
        assert libxl.serve() == 0
        assert time.monotonic() - start < 5.0
        assert libxl.completed == (-1, errno.ECANCELED)


def test_sigterm_while_libxl_suspends_the_guest(tmp_path: Path) -> None:
    """The answer has to be awaited: libxl is in the middle of it, and sends it to whoever reads."""
    with fake(tmp_path) as libxl:
        libxl.next_named("suspend")
        libxl.terminate()
        with pytest.raises(TimeoutError):
            libxl.next_message(timeout=0.5)
        libxl.answer(1)
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert len(libxl.stream) < STREAM_SIZE


def test_sigterm_after_the_stream_is_complete(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        libxl.next_named("suspend")
        libxl.answer(1)
        libxl.next_named("complete")
        libxl.terminate()
        time.sleep(0.1)
        assert libxl.finish() == 0
        assert libxl.completed == (0, 0)


def test_sigterm_blocked_by_the_parent(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        libxl = fake(tmp_path, "idle")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with libxl:
        libxl.next_named("progress")
        libxl.terminate()
        libxl.serve()
        assert libxl.completed == (-1, errno.ECANCELED)


def test_sighup_stays_ignored_under_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        libxl = fake(tmp_path, "idle")
    finally:
        signal.signal(signal.SIGHUP, before)
    with libxl:
        libxl.next_named("progress")
        libxl.process.send_signal(signal.SIGHUP)
        with pytest.raises(TimeoutError):
            libxl.next_message(timeout=0.3)


def test_the_stream_s_reader_goes_away(tmp_path: Path) -> None:
    with fake(tmp_path, "stall", read_stream=False) as libxl:
        libxl.next_named("log")
        reader = libxl.stream_fd
        libxl.stream_fd = os.dup(libxl.process.stdin.fileno())
        os.close(reader)
        libxl.next_named("complete")
        libxl.answer(0)
        assert libxl.process.wait(10) == 0
        assert libxl.completed == (-1, errno.EPIPE)


@pytest.mark.parametrize("what", ["idle", "stall"])
def test_libxl_goes_away_while_memory_is_copied(tmp_path: Path, what: str) -> None:
    with fake(tmp_path, what) as libxl:
        libxl.next_named("log")
        time.sleep(0.2)
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "cancelled (libxl is gone); libxl cannot be told" in libxl.stderr
        assert "Traceback" not in libxl.stderr
    assert record(tmp_path)["cleaned_up"]


def test_libxl_goes_away_instead_of_suspending(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        libxl.next_named("suspend")
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "closed the pipe instead of answering" in libxl.stderr
    assert record(tmp_path)["cleaned_up"]


def test_libxl_goes_away_instead_of_taking_the_result(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        libxl.next_named("suspend")
        libxl.answer(1)
        libxl.next_named("complete")
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "the stream is complete, but libxl cannot be told" in libxl.stderr


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&-"])
def test_stdin_or_stdout_closed(tmp_path: Path, redirection: str) -> None:
    script = f'exec "$@" --save-domain 9 -1 7 1 136 0 9>stream {redirection}'
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT), "FAKE_RECORD": str(tmp_path / "record")}
    done = subprocess.run(
        ["sh", "-c", script, "sh", *WITH_FAKE_CORE], cwd=tmp_path, env=env, capture_output=True, text=True,
        timeout=20, check=False,
    )
    assert done.returncode == 1
    assert "not usable" in done.stderr
    assert (tmp_path / "stream").read_bytes() == b""


def test_without_a_stderr(tmp_path: Path) -> None:
    """A closed fd 2 must not become the place of anything that matters."""
    program = ["sh", "-c", 'exec "$@" 2>&-', "sh", *WITH_FAKE_CORE]
    with fake(tmp_path, "stray", program=program) as libxl:
        libxl.serve()
        assert libxl.completed == (0, 0)
        assert len(libxl.stream) == STREAM_SIZE


def test_the_fake_libxl_notices_stray_bytes() -> None:
    """That this suite can fail: what a stray print would look like is not a message."""
    with pytest.raises(ProtocolError):
        decode(b"stray print\n")
