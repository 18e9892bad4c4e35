"""The commands, as programs."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
from support.judge import judge_rules

import pyxcsr
from pyxcsr import StubGuest
from pyxcsr.cli import main, output
from pyxcsr.cli.opening import find_domain
from pyxcsr.cli.suspending import guest_parts
from pyxcsr.errors import DeviceModelError, OutputError
from pyxcsr.hypervisor.open import StubBackend

GUEST = "pv64:mem=8M,writes=20"


def pyxcsr_run(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pyxcsr.cli.main", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


@pytest.mark.parametrize("guest", ["pv64", "pv32", "pvh", "hvm"])
def test_demo(guest: str) -> None:
    done = pyxcsr_run("demo", "--guest", guest, "--mem", "32M", "--no-progress")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "every rule of the format holds" in text
    assert "equal the guest's memory at suspend" in text
    assert "ms paused" in text and "deferred" in text


def test_save_writes_a_complete_file_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "image"
    done = pyxcsr_run("save", "--backend", "stub", GUEST, str(path), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["bytes"] == path.stat().st_size and report["live"] is True
    assert len(report["passes"]) > 1 and report["passes"][-1]["suspended"] is True
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    judge_rules(path)


def test_save_to_standard_output_prints_nothing_else_there(tmp_path: Path) -> None:
    done = pyxcsr_run("save", "--backend", "stub", "--no-live", GUEST, "-", "--json")
    (tmp_path / "s").write_bytes(done.stdout)
    judge_rules(tmp_path / "s", xen=False)
    assert json.loads(done.stderr)["live"] is False


@pytest.mark.parametrize("wrong", [["--suspend-timeout", "0"], ["--max-downtime", "300"], ["--then", "destroy"]])
def test_an_error_of_the_arguments_is_not_printed_where_the_stream_goes(wrong: list[str]) -> None:
    done = pyxcsr_run("save", "--backend", "stub", "--json", *wrong, "pv64:mem=1M", "-")
    assert done.returncode == 2 and done.stdout == b"", done
    assert json.loads(done.stderr)["ok"] is False


@pytest.mark.parametrize("name", ["\u00b2", "\u0664", "9" * 5000, "99999999999999999999", "4294967296"])
def test_no_number_of_a_domain(name: str) -> None:
    class Xen:
        def domain_info(self, domid: int) -> None:
            pytest.fail(f"{domid} is no domain's id")

        def domains(self) -> list[Any]:
            return []

    with pytest.raises(pyxcsr.DomainNotFound):
        find_domain(cast(Any, Xen()), name)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"precious")
    done = pyxcsr_run("save", "--backend", "stub", GUEST, str(path))
    assert done.returncode == 2 and b"--force" in done.stderr
    assert path.read_bytes() == b"precious"
    done = pyxcsr_run("save", "--backend", "stub", GUEST, str(path), "--force", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    judge_rules(path, xen=False)


def test_a_file_that_comes_into_being_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "image"
    # and no UsageError: its status would say that nothing was done
    with pytest.raises(OutputError, match="meanwhile"), output.stream_output(os.fspath(path), False) as fd:
        os.write(fd, b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs" and list(tmp_path.iterdir()) == [path]


def test_without_force_a_failed_sync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(output.os, "fsync", no_sync)
    with pytest.raises(OutputError) as caught, output.stream_output(os.fspath(tmp_path / "image"), False):
        pass
    assert caught.value.errno == errno.EIO
    assert list(tmp_path.iterdir()) == []


def test_failed_saves_leave_nothing(tmp_path: Path) -> None:
    done = pyxcsr_run("save", "--backend", "stub", f"{GUEST},suspend=crash", str(tmp_path / "image"))
    assert done.returncode == 1 and b"crash" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_said(tmp_path: Path) -> None:
    done = pyxcsr_run("save", "--backend", "stub", GUEST, "/dev/full")
    assert done.returncode == 1 and b"No space left" in done.stderr


def test_no_folder(tmp_path: Path) -> None:
    done = pyxcsr_run("save", "--backend", "stub", GUEST, str(tmp_path / "no" / "image"))
    assert done.returncode == 2 and b"cannot be created" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_save_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """The stream goes to a pipe that nobody reads: the save hangs until the signal comes."""
    command = [sys.executable, "-m", "pyxcsr.cli.main", "save", "--backend", "stub", "pv64:mem=64M", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(100000)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert b"cancelled" in process.stderr.read()
        process.stdout.close()


def test_the_default_backend_is_xen_and_never_the_stub(tmp_path: Path) -> None:
    if Path("/dev/xen/privcmd").exists():
        pytest.skip("this is a Xen host")
    done = pyxcsr_run("save", GUEST, str(tmp_path / "image"))
    assert done.returncode == 2
    assert b"stub" in done.stderr or b"dom0" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["save"],
        ["save", "--backend", "auto", "a", "b"],
        ["save", "--backend", "stub", "pv64:mem=banana", "x"],
        ["save", "--backend", "stub", "pv64:colour=red", "x"],
        ["save", "--backend", "stub", "xyz:mem=1G", "x"],
        ["save", "--backend", "stub", GUEST, "x", "--max-iterations", "0"],
        ["save", "--backend", "stub", GUEST, "x", "--target-dirty", "-1"],
        ["save", "--backend", "stub", GUEST, "x", "--suspend-timeout", "0"],
        ["save", "--backend", "stub", GUEST, "."],
    ],
)
def test_usage(words: list[str], tmp_path: Path) -> None:
    done = pyxcsr_run(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr and b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert pyxcsr.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("then", ["resume", "pause", "destroy"])
def test_then(then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes of the guest, looked at while the command still has the hypervisor open."""
    from pyxcsr.cli import save as command

    seen: list[tuple[bool, bool, bool]] = []
    show = command._print

    def look(report: pyxcsr.SaveReport, args: Any) -> None:
        with pyxcsr.open_hypervisor("stub") as hv:
            left = [x for x in hv.domains() if x.domid == report.domid and not x.dying]
            seen.append((bool(left), any(x.paused for x in left), any(x.suspended for x in left)))
        show(report, args)

    monkeypatch.setattr(command, "_print", look)
    words = ["save", "--backend", "stub", GUEST, os.fspath(tmp_path / "s"), "--then", then, "--quiet"]
    assert main.main(words) == 0
    wanted = {"resume": (True, False, False), "pause": (True, True, False), "destroy": (False, False, False)}
    assert seen == [wanted[then]]


def test_a_stub_guest_s_device_model_is_told_to_track(hv: StubBackend) -> None:
    """Else what it writes during `pyxcsr save --backend stub hvm:...` would be lost."""
    parts = {kind: guest_parts(hv, hv.stub.create(StubGuest.parse(f"{kind}:mem=4M")), 1, lambda: False)
             for kind in ("pv64", "pvh", "hvm")}
    assert parts["pv64"].device_model is None and parts["pvh"].device_model is None
    model = parts["hvm"].device_model
    assert model is not None
    domid = hv.stub.domains[-1]
    model.track(True)
    assert hv.stub.guest(domid).state().devmodel_logdirty
    hv.stub.destroy(domid)
    with pytest.raises(DeviceModelError):
        model.track(False)
