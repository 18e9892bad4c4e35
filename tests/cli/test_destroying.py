"""`save --then destroy` on Xen: xl does it, which also removes what libxl has made for the guest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional, cast

import pytest

from pyxcsr.cli import destroying
from pyxcsr.errors import SuspendError, UsageError, XcsrError


class Info(NamedTuple):
    suspended: bool

    @property
    def condition(self) -> str:
        return "suspended" if self.suspended else "running"


class Xen:
    """A guest of Xen. ``kind``: what libxl has noted of it; None: it has not made it."""

    backend = "xen"

    def __init__(self, kind: Optional[bytes], suspended: bool = True) -> None:
        self.kind, self.destroyed, self.suspended = kind, 0, suspended

    def domain_info(self, domid: int) -> Info:
        assert domid == 7
        return Info(self.suspended)

    def xenstore_read(self, path: str) -> Optional[bytes]:
        assert path == "/libxl/7/type"
        return self.kind

    def domain_destroy(self, domid: int) -> None:
        assert domid == 7
        self.destroyed += 1


def destroyer(xen: Xen, cancel: Callable[[], bool] = lambda: False) -> Callable[[], None]:
    return destroying.destroyer(cast(Any, xen), 7, cancel)


def xl(folder: Path, script: str) -> None:
    (folder / "xl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "xl").chmod(0o755)


def said_besides(error: BaseException) -> str:
    """On a Python without notes they are in the text."""
    return "; ".join(getattr(error, "__notes__", [str(error)]))


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that PATH lacks."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(destroying, "FOLDERS", str(tmp_path))
    return tmp_path


def test_xl_is_found_where_path_lacks_it(more: Path) -> None:
    xl(more, f'echo "$@" > {more}/said')
    xen = Xen(b"pv")
    destroyer(xen)()
    assert (more / "said").read_text() == "destroy 7\n" and not xen.destroyed


def test_without_xl_a_guest_of_libxls_is_not_destroyed(more: Path) -> None:
    xen = Xen(b"hvm")
    with pytest.raises(UsageError, match="no xl"):
        destroyer(xen)
    assert not xen.destroyed
    destroyer(own := Xen(None))()
    assert own.destroyed == 1


def test_an_xl_that_fails_leaves_the_guest_suspended(more: Path) -> None:
    xl(more, "echo it is busy >&2; exit 1")
    with pytest.raises(XcsrError, match="it is busy") as raised:
        destroyer(Xen(b"pv"))()
    assert said_besides(raised.value).endswith(
        "the stream is complete; domain 7 stays suspended: `xl destroy 7`, or let it go on with `pyxcsr recover 7`"
    )


def test_a_guest_that_was_let_go_on_is_not_destroyed(more: Path) -> None:
    xl(more, f"touch {more}/called")
    with pytest.raises(SuspendError, match="it is not as it was saved, but running") as raised:
        destroyer(Xen(b"pv", suspended=False))()
    assert "the stream is complete; domain 7 is running" in said_besides(raised.value)
    assert not (more / "called").exists()


def test_an_xl_that_cannot_be_started_is_told_as_well(more: Path) -> None:
    xl(more, "")
    destroy = destroyer(Xen(b"pv"))
    (more / "xl").unlink()
    with pytest.raises(XcsrError, match="cannot be started") as raised:
        destroy()
    assert "the stream is complete; domain 7 stays suspended" in said_besides(raised.value)


@pytest.mark.parametrize("why", ["a signal", "its time is over"])
def test_an_xl_that_hangs_is_not_waited_for(
    more: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    xl(more, f"echo $$ > {more}/pid; exec /bin/sleep 60")
    calls: list[int] = []

    def cancel() -> bool:
        calls.append(1)
        return why == "a signal" and len(calls) > 3

    if why != "a signal":
        monkeypatch.setattr(destroying, "PATIENCE", 0.1)
        monkeypatch.setattr(destroying, "AT_MOST", 0.3)
    with pytest.raises(XcsrError, match="has not ended yet, and goes on") as raised:
        destroyer(Xen(b"pv"), cancel)()
    text = said_besides(raised.value)
    assert "the stream is complete; domain 7 must not go on before xl has ended" in text and "recover" not in text
    assert ("is waited for" in capsys.readouterr().err) is (why != "a signal")
    process = int(str(raised.value).rpartition("process ")[2].rstrip(")"))
    os.kill(process, 0)  # it still runs
    os.kill(process, 9)
    os.waitpid(process, 0)


def test_a_signal_that_came_too_late_does_not_end_the_wait(more: Path) -> None:
    xl(more, f"/bin/sleep 0.2; : > {more}/done")
    destroyer(Xen(b"pv"), lambda: True)()
    assert (more / "done").exists()


def test_ctrl_c_does_not_end_it(more: Path) -> None:
    xl(more, f"read -r _ _ _ _ group _ < /proc/$$/stat; echo $group $$ > {more}/group")
    destroyer(Xen(b"pv"))()
    group, pid = (more / "group").read_text().split()
    assert group == pid
