"""The real program with the real core on the stub hypervisor, run as libxl runs it."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest
from fake_libxl import PROGRAM, FakeLibxl

import pyxcsr
from pyxcsr.limits.variables import unknown_variables
from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify

GUEST = "pv64:mem=16M"
PACKAGE = Path(pyxcsr.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"


def on_stub(tmp_path: Path, guest: str = GUEST, **more: object) -> FakeLibxl:
    env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": guest, **more.pop("env", {})}
    return FakeLibxl(tmp_path, program=PROGRAM, env=env, **more)


def problems_of(tmp_path: Path, stream: bytes) -> list[object]:
    """What verify says about a stream, of which there may be nothing yet."""
    if not stream:
        return ["nothing was written"]
    path = tmp_path / "stream"
    path.write_bytes(stream)
    with path.open("rb") as file:
        return list(verify(StreamReader(file)).complaints)


@pytest.mark.parametrize("live", [True, False])
def test_success(tmp_path: Path, live: bool) -> None:
    with on_stub(tmp_path, xcflags=int(live)) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert problems_of(tmp_path, bytes(libxl.stream)) == []
        names = [m.name for m in libxl.messages if m.name != "log"]
        assert names.count("suspend") == 1
        texts = [str(m.fields[1]) for m in libxl.messages if m.name == "progress"]
        suspended_at = names.index("suspend")
        assert all(text.startswith("live pass") for text in texts[:suspended_at])
        assert {"pass with the guest suspended"} >= set(texts[suspended_at:]), "a short one is not told of at all"
        assert live or texts[suspended_at:]
        assert bool(texts[:suspended_at]) is live
        (summary,) = libxl.logged(5)
        passes = re.match(r"domain \d+: (\d+) pass(?:es)?, \d+ pages, ", summary)
        assert passes is not None
        assert (int(passes[1]) > 1) is live
        assert libxl.stderr == ""


def test_policy_from_the_environment(tmp_path: Path) -> None:
    env = {"PYXCSR_MAX_ITERATIONS": "2", "PYXCSR_TARGET_DIRTY": "0"}
    with on_stub(tmp_path, env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.logged(5)[0].split(": ")[1].startswith("3 passes"), "two live, and the last"


CONFIG = """\
[guests]
max_iterations = 3
target_dirty = 0

[guest db]
max_iterations = 2
"""


@pytest.mark.parametrize(
    ("name", "env", "passes"), [("db", {}, 3), ("web", {}, 4), ("db", {"PYXCSR_MAX_ITERATIONS": "5"}, 6)]
)
def test_the_settings_file(tmp_path: Path, name: str, env: dict[str, str], passes: int) -> None:
    """libxl tells a domid; the name is in xenstore."""
    (tmp_path / "x.conf").write_text(CONFIG)
    with on_stub(tmp_path, f"{GUEST},name={name}", env={"PYXCSR_CONFIG": str(tmp_path / "x.conf"), **env}) as libxl:
        assert libxl.serve() == 0
        assert libxl.logged(5)[0].split(": ")[1].startswith(f"{passes} passes")


def test_a_settings_file_that_is_wrong(tmp_path: Path) -> None:
    """In what it says of another guest, even: it is not to come to light when that one must go."""
    (tmp_path / "x.conf").write_text(CONFIG + "bandwidth = plenty\n")
    with on_stub(tmp_path, GUEST, env={"PYXCSR_CONFIG": str(tmp_path / "x.conf")}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EINVAL)
        assert f"{tmp_path}/x.conf, line 7: bandwidth is 'plenty'" in libxl.logged(8)[0]
        assert libxl.stream == b"" and all(m.name != "suspend" for m in libxl.messages)


def test_limits_that_contradict_each_other(tmp_path: Path) -> None:
    with on_stub(tmp_path, env={"PYXCSR_ON_TIMEOUT": "abort"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EINVAL)
        assert "there is no timeout: give one (on_timeout: PYXCSR_ON_TIMEOUT)" in libxl.logged(8)[0]
        assert libxl.stream == b""


def test_a_timeout(tmp_path: Path) -> None:
    with on_stub(tmp_path, env={"PYXCSR_TIMEOUT": "300ms", "PYXCSR_BANDWIDTH": "512K"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.ETIMEDOUT)
        assert "longer than its timeout of 300 ms" in libxl.logged(8)[0]
        assert all(m.name != "suspend" for m in libxl.messages)


def test_a_guest_that_is_too_busy(tmp_path: Path) -> None:
    with on_stub(tmp_path, "pv64:mem=4M,writes=3000", env={"PYXCSR_ABORT_IF_BUSY": "yes"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EBUSY)
        assert "abort_if_busy" in libxl.logged(8)[0]


def test_a_limit_that_was_missed_is_told(tmp_path: Path) -> None:
    env = {"PYXCSR_MAX_DOWNTIME": "1us", "PYXCSR_MAX_ITERATIONS": "2"}
    with on_stub(tmp_path, "pv64:mem=16M,writes=200", env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert "; max_downtime of 0.001 ms was not kept: " in libxl.logged(5)[0]


def test_a_setting_that_is_misspelt_is_told(tmp_path: Path) -> None:
    env = {"PYXCSR_MAXDOWNTIME": "300ms", "PYXCSR_MAX_ITERATIONS": "3", "PYXCSR_RUN_DIR": "none"}
    with on_stub(tmp_path, env=env) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        assert libxl.logged(7) == ["PYXCSR_MAXDOWNTIME is no setting of pyxcsr's: it changes nothing"]


def test_every_setting_is_known() -> None:
    """As the program and its documentation name them."""
    names = {f"PYXCSR_{x}" for x in ("ALL", "P")}  # of C
    for folder, pattern in ((PACKAGE, "**/*.py"), (DOCS, "save-helper.md")):
        for path in folder.glob(pattern):
            names |= set(re.findall(r"\bPYXCSR_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    unknown = [x.split()[0] for x in unknown_variables(dict.fromkeys(names, ""))]
    assert len(names) > 20 and unknown == ["PYXCSR_ALL", "PYXCSR_P"]


def test_max_downtime_does_not_hold_where_all_is_sent_again(tmp_path: Path) -> None:
    with on_stub(tmp_path, xcflags=3, env={"PYXCSR_MAX_DOWNTIME": "300ms"}) as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (0, 0)
        (said,) = libxl.logged(7)
        assert "max_downtime does not hold: verify sends all" in said and "(PYXCSR_MAX_DOWNTIME)" in said


def test_suspend_refused(tmp_path: Path) -> None:
    with on_stub(tmp_path) as libxl:
        assert libxl.serve(suspend=0) == 0
        assert libxl.completed == (-1, errno.EIO)
        assert problems_of(tmp_path, bytes(libxl.stream)), "an incomplete stream must not look complete"


def test_a_guest_that_crashes_instead(tmp_path: Path) -> None:
    with on_stub(tmp_path, GUEST + ",suspend=crash") as libxl:
        assert libxl.serve() == 0
        assert libxl.completed[0] == -1
        assert "crash" in libxl.logged(8)[0]


def test_a_guest_that_cannot_be_built(tmp_path: Path) -> None:
    with on_stub(tmp_path, "pv64:mem=16Q") as libxl:
        assert libxl.serve() == 0
        assert libxl.completed == (-1, errno.EINVAL)
        assert "16Q" in libxl.logged(8)[0]


@pytest.mark.alone
def test_sigterm_while_the_stream_is_stalled(tmp_path: Path) -> None:
    with on_stub(tmp_path, read_stream=False) as libxl:
        libxl.next_named("log")
        time.sleep(0.5)
        start = libxl.terminate()
        libxl.next_named("complete")
        assert time.monotonic() - start < 5.0
        libxl.start_reading()
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)
        assert "SIGTERM" in libxl.logged(8)[0]


@pytest.mark.alone
def test_sigterm_while_stalled_with_the_guest_suspended(tmp_path: Path) -> None:
    """A non-live save: the stream takes nothing once the guest is suspended."""
    with on_stub(tmp_path, xcflags=0, read_stream=False) as libxl:
        libxl.next_named("suspend")
        libxl.answer(1)
        time.sleep(0.5)
        start = libxl.terminate()
        libxl.next_named("complete")
        assert time.monotonic() - start < 5.0
        libxl.start_reading()
        assert libxl.finish() == 0
        assert libxl.completed == (-1, errno.ECANCELED)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.4])
def test_sigterm_at_any_moment(tmp_path: Path, delay: float) -> None:
    """Whatever it is doing, it ends well and tells the truth."""
    with on_stub(tmp_path, "pv64:mem=64M") as libxl:
        libxl.next_named("log")
        time.sleep(delay)
        libxl.terminate()
        assert libxl.serve() == 0
        complete = problems_of(tmp_path, bytes(libxl.stream)) == []
        assert libxl.completed == ((0, 0) if complete else (-1, errno.ECANCELED))


def test_the_stream_s_reader_goes_away(tmp_path: Path) -> None:
    with on_stub(tmp_path, read_stream=False) as libxl:
        libxl.next_named("log")
        reader = libxl.stream_fd
        libxl.stream_fd = os.dup(libxl.process.stdin.fileno())
        os.close(reader)
        libxl.next_named("complete")
        libxl.answer(0)
        assert libxl.process.wait(10) == 0
        assert libxl.completed == (-1, errno.EPIPE)


def test_libxl_goes_away(tmp_path: Path) -> None:
    with on_stub(tmp_path, read_stream=False) as libxl:
        libxl.next_named("log")
        time.sleep(0.3)
        libxl.close_pipes()
        libxl.start_reading()
        assert libxl.exit_status() == 1
        assert "libxl cannot be told" in libxl.stderr
        assert "Traceback" not in libxl.stderr
