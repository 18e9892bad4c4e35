"""The real program, run as libxl runs it for a restore, on a fake core: what goes over the pipes in every case."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest
from fake_core import CONSOLE_GFN, STORE_GFN, STREAM
from fake_libxl import PROGRAM, WITH_FAKE_CORE, FakeLibxl, Message

STATIC_DATA_DONE_BIT = 1 << 8
RESULTS = Message("restore_results", (STORE_GFN, CONSOLE_GFN))


def record(tmp_path: Path) -> dict[str, object]:
    return json.loads((tmp_path / "record").read_text())


def fake(tmp_path: Path, what: str = "good", feed: bytes = STREAM, **more: object) -> FakeLibxl:
    env = {"FAKE_SAVE": what, **more.pop("env", {})}
    return FakeLibxl(tmp_path, mode="--restore-domain", feed=feed, env=env, **more)


def test_success(tmp_path: Path) -> None:
    with fake(tmp_path, feed=STREAM + b"libxl's own") as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert [m for m in libxl.messages if m.name != "log"] == [
            Message("progress", ("pyxcsr", "restoring", 0, 1000)),
            Message("static_data_done", (0,)),
            Message("progress", ("pyxcsr", "restoring", 256, 1000)),
            RESULTS,
            Message("complete", (0, 0)),
        ]
        assert libxl.left_over() == b"libxl's own"
        assert libxl.logged(8) == []
        assert libxl.logged(5) == [
            "domain 7: restored from a version 3 stream, 256 pages, 4 vcpus, 1.0 MiB in 1.50 s"
        ]
        assert libxl.stderr == ""
    assert record(tmp_path) == {
        "backend": "xen", "domid": 7, "rings": [2, 0, 1, 3], "cleaned_up": True, "hypervisor_closed": True,
        "core_was_loaded": True,
    }


def test_warnings_go_into_xls_log(tmp_path: Path) -> None:
    with fake(tmp_path, env={"FAKE_WARNINGS": "a-source-stayed-open"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert libxl.logged(7) == ["domain 7: a-source-stayed-open"]


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_libxl_is_told_what_the_stream_lacks(tmp_path: Path, missing: int) -> None:
    with fake(tmp_path, env={"FAKE_MISSING": str(missing)}) as libxl:
        assert libxl.next_named("static_data_done").fields == (missing,)
        libxl.answer(0)
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)


@pytest.mark.parametrize("answer", [-3, 1])
def test_libxl_cannot_make_up_for_it(tmp_path: Path, answer: int) -> None:
    """Any answer but 0 is an error of libxl's: ERROR_* codes are negative."""
    with fake(tmp_path, env={"FAKE_MISSING": "1"}) as libxl:
        assert libxl.serve(static_data_done=answer) == 0
        assert libxl.completed == (-1, errno.EIO)
        assert f"answer {answer}" in libxl.logged(8)[0]
        assert all(m.name != "restore_results" for m in libxl.messages)
    assert record(tmp_path)["cleaned_up"]


def test_a_libxl_that_does_not_take_static_data_done(tmp_path: Path) -> None:
    with fake(tmp_path, cbflags=1 << 9, env={"FAKE_MISSING": "3"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert all(m.name != "static_data_done" for m in libxl.messages)


@pytest.mark.parametrize(
    ("what", "text", "number"),
    [
        ("not-supported", "HVM: not yet supported; PYXCSR_RESTORE=stock leaves", errno.EOPNOTSUPP),
        ("eacces", "another release", errno.EACCES),
        ("dying", "dying", errno.ESRCH),
        ("plain", "something", errno.EIO),
        ("no-backend", "no Xen here", errno.ENODEV),
        ("no-domain", "no such domain", errno.ESRCH),
        ("lines", "one two three", errno.EIO),
        ("memory", "out of memory", errno.ENOMEM),
    ],
)
def test_errors_of_restore(tmp_path: Path, what: str, text: str, number: int) -> None:
    with fake(tmp_path, what) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, number)
        (logged,) = [m for m in libxl.messages if m.name == "log" and m.fields[0] == 8]
        assert text in str(logged.fields[3])
        assert logged.fields[1:3] == (number, "pyxcsr")
        assert libxl.stderr == ""
        assert all(m.name in ("log", "complete") for m in libxl.messages), "no results where there are none"
        assert libxl.left_over() == STREAM


@pytest.mark.parametrize(
    ("what", "name"), [("bug", "KeyError"), ("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")]
)
def test_an_unexpected_exception(tmp_path: Path, what: str, name: str) -> None:
    with fake(tmp_path, what) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EIO)
        assert name in libxl.logged(8)[0]
        assert "fake_restore" in libxl.stderr


def test_stray_output_stays_out_of_the_protocol(tmp_path: Path) -> None:
    with fake(tmp_path, "stray") as libxl:
        assert libxl.serve() == 0  # every byte is decoded on the way
        assert libxl.completed == (0, 0)
        for text in ("stray print", "stray write", "stray sys.__stdout__", "stray child"):
            assert text in libxl.stderr


def test_progress_is_throttled(tmp_path: Path) -> None:
    with fake(tmp_path, "chatty") as libxl:
        libxl.serve()
        assert 4 <= len([m for m in libxl.messages if m.name == "progress"]) <= 10  # 0.55 s, the start and the end


@pytest.mark.parametrize(
    ("arguments", "env", "number", "text"),
    [
        ({"stream_type": 1}, {}, errno.EINVAL, "no checkpoint callback"),
        ({"stream_type": 2}, {}, errno.EOPNOTSUPP, "COLO (stream type 2) is not"),
        ({"stream_type": 9}, {}, errno.EOPNOTSUPP, "unknown"),
        ({}, {"PYXCSR_RESTORE": "yes"}, errno.EINVAL, "PYXCSR_RESTORE is 'yes'"),
        ({}, {"PYXCSR_BACKEND": "kvm"}, errno.EINVAL, "PYXCSR_BACKEND"),
        ({}, {"PYXCSR_BACKEND": "stub"}, errno.EINVAL, "PYXCSR_STUB_GUEST"),
    ],
)
def test_refused_before_anything_is_touched(
    tmp_path: Path, arguments: dict[str, int], env: dict[str, str], number: int, text: str
) -> None:
    with fake(tmp_path, env=env, **arguments) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, number)
        assert text in libxl.logged(8)[0]
        assert libxl.left_over() == STREAM
    assert record(tmp_path) == {"core_was_loaded": False}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "9 arguments"),
        ("9 -1 7 2 0 1 0 768", "not 8"),
        ("9 -1 7 2 0 1 0 768 0 0", "not 10"),
        ("0 -1 7 2 0 1 0 768 0", "STREAM_FD 0"),
        ("9 x 7 2 0 1 0 768 0", "BACK_FD is 'x'"),
        ("9 -1 32752 2 0 1 0 768 0", "DOMID is 32752"),
        ("9 -1 7 -2 0 1 0 768 0", "STORE_EVTCHN is -2"),
        ("9 -1 7 2 32752 1 0 768 0", "STORE_DOMID is 32752"),
        ("9 -1 7 2 0 4294967296 0 768 0", "CONSOLE_EVTCHN"),
        ("9 -1 7 2 0 1 32752 768 0", "CONSOLE_DOMID is 32752"),
        ("9 -1 7 2 0 1 0 0x300 0", "CBFLAGS is '0x300'"),
        ("9 -1 7 2 0 1 0 768 plain", "STREAM_TYPE is 'plain'"),
    ],
)
def test_bad_arguments(tmp_path: Path, words: str, text: str) -> None:
    with FakeLibxl(tmp_path, program=PROGRAM, arguments=["--restore-domain", *words.split()]) as libxl:
        assert libxl.at_end(), "nothing may be written to stdout"
        assert libxl.exit_status() == 2
        assert text in libxl.stderr
        assert "Traceback" not in libxl.stderr


WORDS = ["7", "2", "0", "1", "0", "768", "0"]


@pytest.mark.parametrize("fd", [3, 4])
def test_a_stream_fd_that_is_not_open(tmp_path: Path, fd: int) -> None:
    """It is free: it would be the hypervisor's own were that opened first."""
    program = ["sh", "-c", 'exec 3>&- 4>&-; exec "$@"', "sh", *WITH_FAKE_CORE]
    words = ["--restore-domain", str(fd), "-1", *WORDS]
    with FakeLibxl(tmp_path, program=program, arguments=words) as libxl:
        libxl.serve()
        assert libxl.completed == (-1, errno.EBADF)
        assert libxl.logged(8) == [f"STREAM_FD {fd}: Bad file descriptor"]


def test_a_stream_fd_that_cannot_be_read(tmp_path: Path) -> None:
    program = ["sh", "-c", 'exec 9>/dev/null; exec "$@"', "sh", *WITH_FAKE_CORE]
    with FakeLibxl(tmp_path, program=program, arguments=["--restore-domain", "9", "-1", *WORDS]) as libxl:
        libxl.serve()
        assert libxl.completed == (-1, errno.EBADF)
        assert "writing only" in libxl.logged(8)[0]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-"])
def test_stdin_or_stdout_closed(tmp_path: Path, closed: str) -> None:
    program = ["sh", "-c", f'exec {closed}; exec "$@"', "sh", *WITH_FAKE_CORE]
    with fake(tmp_path, program=program) as libxl:
        assert libxl.process.wait(10) == 1
        assert "not usable" in libxl.stderr
        assert libxl.left_over() == STREAM
    assert record(tmp_path) == {"core_was_loaded": False}


def test_without_a_stderr(tmp_path: Path) -> None:
    """fd 2 is free: nothing that is opened may become it."""
    program = ["sh", "-c", 'exec 2>&-; exec "$@"', "sh", *WITH_FAKE_CORE]
    with fake(tmp_path, "stray", program=program) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)


# -- HVM


STOCK = """#!/bin/sh
{
    for word; do echo "arg $word"; done
    ls -l /proc/self/fd
} >seen
head -c 10 </dev/fd/$2 >stream
echo to-libxl
read line
echo "got $line" >>seen
exit 7
"""


def test_hvm_is_restored_here(tmp_path: Path) -> None:
    """And by nobody else, even if there is no other helper."""
    env = {"FAKE_HVM": "hvm", "PYXCSR_STOCK_HELPER": str(tmp_path / "missing")}
    with fake(tmp_path, env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)


def test_it_is_handed_over_where_asked_for(tmp_path: Path) -> None:
    """With its pipes, its stream and its arguments as they were."""
    stock = tmp_path / "stock"
    stock.write_text(STOCK)
    stock.chmod(0o755)
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(stock)}
    with fake(tmp_path, feed=b"0123456789" + STREAM, env=env) as libxl:
        assert libxl.process.stdout.readline() == b"to-libxl\n", "stdout is libxl's pipe, untouched"
        libxl.process.stdin.write(b"from-libxl\n")
        assert libxl.at_end()
        assert libxl.exit_status() == 7, "it is the stock helper that exits"
        assert libxl.stderr == ""
    seen = (tmp_path / "seen").read_text()
    assert [line[4:] for line in seen.splitlines() if line.startswith("arg ")] == libxl.process.args[-10:]
    assert "got from-libxl" in seen
    assert (tmp_path / "stream").read_bytes() == b"0123456789"


def test_without_a_stock_helper(tmp_path: Path) -> None:
    env = {"PYXCSR_RESTORE": "stock", "PYXCSR_STOCK_HELPER": str(tmp_path / "missing")}
    with fake(tmp_path, env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.ENOENT)
        assert "PYXCSR_STOCK_HELPER" in libxl.logged(8)[0]
        assert libxl.left_over() == STREAM


# -- abort, and libxl going away


@pytest.mark.alone
@pytest.mark.parametrize("number", ["TERM", "INT", "HUP"])
def test_a_signal_while_the_stream_is_stalled(tmp_path: Path, number: str) -> None:
    import signal

    with fake(tmp_path, feed=STREAM[:5000]) as libxl:
        libxl.next_named("static_data_done")
        libxl.answer(0)
        time.sleep(0.2)
        start = time.monotonic()
        libxl.process.send_signal(signal.Signals[f"SIG{number}"])
        libxl.next_named("complete")
        assert time.monotonic() - start < 5.0
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert f"SIG{number}" in libxl.logged(8)[0]
        assert all(m.name != "restore_results" for m in libxl.messages)
    assert record(tmp_path)["cleaned_up"]


def test_the_sender_dies(tmp_path: Path) -> None:
    with fake(tmp_path, feed=STREAM[:5000]) as libxl:
        libxl.next_named("static_data_done")
        libxl.answer(0)
        libxl.end_feed()
        os.close(libxl.left_fd)
        libxl.left_fd = -1
        assert libxl.serve() == 0
        assert libxl.completed[0] == -1
        assert "the stream ends" in libxl.logged(8)[0]


def test_libxl_dies(tmp_path: Path) -> None:
    with fake(tmp_path, feed=STREAM[:5000]) as libxl:
        libxl.next_named("static_data_done")
        libxl.answer(0)
        time.sleep(0.2)
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "libxl cannot be told" in libxl.stderr
        assert "Traceback" not in libxl.stderr
    assert record(tmp_path)["cleaned_up"]


def test_libxl_dies_instead_of_answering(tmp_path: Path) -> None:
    with fake(tmp_path) as libxl:
        libxl.next_named("static_data_done")
        libxl.close_pipes()
        assert libxl.exit_status() == 1
        assert "libxl cannot be told" in libxl.stderr
    assert record(tmp_path)["cleaned_up"]
