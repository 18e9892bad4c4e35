"""What a person at a terminal sees: progress, a summary, what was recovered; and domains by name."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.judge import save_to

import pyxcsr
from pyxcsr.cli import main, recover
from pyxcsr.cli.save import find_domain
from pyxcsr.cli.show import ProgressLine, progress_line, summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import PassReport, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_rewritten(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=50))
    out = Terminal()
    line = ProgressLine(out)
    save_to(hv, domid, tmp_path / "s", progress=line)
    shown = [x.rstrip() for x in out.getvalue().split("\r")]
    assert "\n" not in out.getvalue() and shown[0] == ""
    assert any(x.startswith("pass 0 (guest running): 100% of 2048 pages, 8 MiB") for x in shown), shown
    assert any("(guest paused): 100%" in x for x in shown) and any(x.startswith("suspend ...") for x in shown)
    line.done()
    last = out.getvalue().split("\r")[-2]
    assert last.strip() == "" and len(last) >= len(shown[-1]), "wiped"
    line.done()
    assert out.getvalue().split("\r")[-2] == last, "once"


def test_elsewhere_a_line_for_each_pass_and_phase(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="8M", writes=50))
    out = io.StringIO()
    line = ProgressLine(out)
    report = save_to(hv, domid, tmp_path / "s", progress=line)
    line.done()
    lines = out.getvalue().splitlines()
    assert "\r" not in out.getvalue()
    assert len([x for x in lines if x.startswith("pass ")]) == len(report.passes), lines


def test_nothing_before_the_first_byte() -> None:
    out = Terminal()
    ProgressLine(out)(Progress("setup", 0, 0, 0, 0, 0, 0.0))
    assert out.getvalue() == "\rsetup ... 0 MiB, 0 MiB/s"
    ProgressLine(out)(Progress("pass", 3, 0, 0, 0, 0, 0.0))
    assert out.getvalue().endswith("pass 3 (guest running): 100% of 0 pages, 0 MiB, 0 MiB/s")


def test_whether_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_line(None) is None and progress_line(False) is None
    assert isinstance(progress_line(True), ProgressLine)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress_line(None), ProgressLine) and progress_line(False) is None
    monkeypatch.setattr("sys.stderr", None)
    assert progress_line(True) is None


def test_the_summary_says_all_that_was_out_of_the_ordinary(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    report = save_to(hv, domid, tmp_path / "s")
    plain = summary(report)
    assert "note:" not in plain and "warning:" not in plain and "p2m:" not in plain and "second time" not in plain
    assert f"live save of domain {domid}: " in plain and "ms paused" in plain
    report.verify, report.logdirty_retried = PassReport(9, True, 1024, pages=1000), True
    report.warnings.append("something was left")
    report.p2m.follows, report.p2m.vanished, report.p2m.restless = 2, 7, True
    text = summary(report)
    for words in (
        "all pages sent a second time: 1000 in",
        "left on by another tool",
        "warning: something was left",
        "p2m: 2 changes followed, 0 pfns appeared, 7 vanished",
        "never held still",
    ):
        assert words in text


NAMES = {"/local/domain/3/name": b"db", "/local/domain/7/name": b"web"}
XEN: Any = SimpleNamespace(
    domains=lambda: [SimpleNamespace(domid=x) for x in (0, 3, 5, 7)],
    xenstore_read=NAMES.get,
)


def test_a_domain_by_id_or_name() -> None:
    assert find_domain(XEN, "12") == 12 and find_domain(XEN, "web") == 7
    with pytest.raises(pyxcsr.UsageError, match="domain 0"):
        find_domain(XEN, "0")
    with pytest.raises(pyxcsr.DomainNotFound, match="no domain named 'mail'"):
        find_domain(XEN, "mail")


def test_recover_as_a_command(
    hv: StubBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    hv.stub.guest(domid).shut_down(2)
    asked: list[str] = []

    def opened(name: str) -> Any:
        asked.append(name)
        return _Kept(hv)

    monkeypatch.setattr(recover, "open_hypervisor", opened)
    monkeypatch.setattr(recover, "find_domain", lambda _hv, name: int(name))
    assert main.main(["recover", "--no-resume", "--json", str(domid)]) == 1
    assert json.loads(capsys.readouterr().out)["left"] and hv.stub.guest(domid).suspended
    assert main.main(["recover", str(domid)]) == 0
    assert "was suspended" in capsys.readouterr().out and hv.stub.guest(domid).running
    assert asked == ["xen", "xen"]


class _Kept:
    """A hypervisor that is not closed by who opened it."""

    def __init__(self, hv: StubBackend) -> None:
        self._hv = hv

    def __enter__(self) -> StubBackend:
        return self._hv

    def __exit__(self, *exc: object) -> None:
        pass
