"""The helper's saves are seen, steered and refused like any other, and whatever becomes of that, libxl is served."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control.scene import the_save
from fake_libxl import PROGRAM, FakeLibxl

from pyxcsr.stream.reader import StreamReader
from pyxcsr.stream.rules.verify import verify

GUEST = "pv64:mem=8M,writes=60,seed=5"
SLOW = {"PYXCSR_BANDWIDTH": "1M"}


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pyxcsr") as parent:
        yield Path(parent) / "run"


def on_stub(tmp_path: Path, run_dir: Path, **more: Any) -> FakeLibxl:
    tmp_path.mkdir(exist_ok=True)
    env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": GUEST, "PYXCSR_RUN_DIR": str(run_dir), **more.pop("env", {})}
    return FakeLibxl(tmp_path, program=PROGRAM, env=env, **more)


def complete(libxl: FakeLibxl, tmp_path: Path) -> bool:
    (tmp_path / "stream").write_bytes(bytes(libxl.stream))
    with (tmp_path / "stream").open("rb") as stream:
        return bool(verify(StreamReader(stream)).ok)


def test_seen_and_tuned(tmp_path: Path, run_dir: Path) -> None:
    with on_stub(tmp_path, run_dir, env=SLOW) as libxl:
        one = the_save(run_dir)
        assert one.pid == libxl.process.pid and one.program == "main.py"
        events = one.events()
        assert next(events)["limits"]["bandwidth"] == 1 << 20
        assert one.tune(bandwidth=None, max_downtime="20s")["policy"] == "adaptive"
        assert libxl.serve() == 0
        last = list(events)[-1]
        assert (last["event"], last["result"], last["policy"]) == ("end", "done", "adaptive"), "told before it exits"
        assert libxl.stderr == "" and libxl.logged(7) == [] and complete(libxl, tmp_path)
    assert list(run_dir.iterdir()) == [], "it leaves nothing, though it does not return from its success"


def test_cancelled(tmp_path: Path, run_dir: Path) -> None:
    with on_stub(tmp_path, run_dir, env=SLOW) as libxl:
        command = [sys.executable, "-m", "pyxcsr", "cancel", "--run-dir", run_dir, "stub-1"]
        the_save(run_dir)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as cancel:
            assert libxl.serve() == 0
            assert cancel.communicate(timeout=20)[0] == b"stub-1: the save was cancelled; the guest runs on\n"
        assert cancel.returncode == 0 and libxl.completed == (-1, errno.ECANCELED)
        assert "was cancelled by somebody else" in libxl.logged(8)[0]
        assert all(m.name != "suspend" for m in libxl.messages)
    assert list(run_dir.iterdir()) == []


def test_a_second_one_is_refused(tmp_path: Path, run_dir: Path) -> None:
    with on_stub(tmp_path / "a", run_dir, env=SLOW) as first:
        the_save(run_dir)
        with on_stub(tmp_path / "b", run_dir) as second:
            assert second.serve() == 0
            assert second.completed == (-1, errno.EBUSY) and second.stream == b""
            assert f"is being saved by process {first.process.pid} (main.py) already" in second.logged(8)[0]
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    with on_stub(tmp_path / "c", run_dir) as third:
        assert third.serve() == 0 and third.completed == (0, 0)
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("live", [True, False])
def test_no_folder_can_be_had(tmp_path: Path, run_dir: Path, live: bool) -> None:
    run_dir.mkdir()
    run_dir.chmod(0o777)
    with on_stub(tmp_path, run_dir, xcflags=int(live)) as libxl:
        assert libxl.serve() == 0 and libxl.completed == (0, 0)
        (warning,) = libxl.logged(7)
        assert "does not see this save" in warning and "chmod 0700" in warning
        assert complete(libxl, tmp_path)


def test_none(tmp_path: Path, run_dir: Path) -> None:
    with on_stub(tmp_path, Path("none")) as libxl:
        assert libxl.serve() == 0 and libxl.logged(7) == []
    assert not (tmp_path / "none").exists()


def test_events(tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "events"
    with on_stub(tmp_path, Path("none"), env={"PYXCSR_EVENTS": str(path)}) as libxl:
        assert libxl.serve() == 0
    told = [json.loads(x) for x in path.read_bytes().splitlines()]
    assert (told[0]["event"], told[-1]["event"], told[-1]["result"]) == ("begin", "end", "done")
    assert path.stat().st_mode & 0o777 == 0o600


def test_events_on_stderr(tmp_path: Path, run_dir: Path) -> None:
    with on_stub(tmp_path, Path("none"), env={"PYXCSR_EVENTS": "2"}) as libxl:
        assert libxl.serve() == 0
        assert [json.loads(x)["event"] for x in libxl.stderr.splitlines()][-1] == "end"


@pytest.mark.parametrize("where", ["/nothing/there", "/dev/full"])
def test_events_that_cannot_be_written(tmp_path: Path, run_dir: Path, where: str) -> None:
    with on_stub(tmp_path, Path("none"), env={"PYXCSR_EVENTS": where}) as libxl:
        assert libxl.serve() == 0 and libxl.completed == (0, 0)
        assert f"events cannot be written to {where}" in libxl.logged(7)[0] and complete(libxl, tmp_path)


def test_a_descriptor_that_libxl_did_not_hand_down(tmp_path: Path, run_dir: Path) -> None:
    """It might be the stream's."""
    with on_stub(tmp_path, Path("none"), env={"PYXCSR_EVENTS": "5"}) as libxl:
        assert libxl.serve() == 0 and libxl.completed == (-1, errno.EINVAL) and libxl.stream == b""
        assert "PYXCSR_EVENTS is '5'" in libxl.logged(8)[0]


def test_what_is_loaded(tmp_path: Path) -> None:
    """Neither socket nor json, which take longer to load than all of the control: a guest's user waits."""
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        "import pyxcsr.control.control, pyxcsr.helper.controlling, pyxcsr.transfer.saver\n"
        f"from pyxcsr.control.folder import Folder\nfrom pyxcsr.control.server import Server\n"
        f"Server(Folder({os.fspath(tmp_path)!r}), 1, print).abandon()\n"
        "print(*sorted({'socket', 'selectors', 'json', 'dataclasses'} & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == []
