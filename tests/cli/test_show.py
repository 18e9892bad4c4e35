"""What a person at a terminal sees: a summary, what was recovered; and domains by name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.judge import save_to

import pyxcsr
from pyxcsr.cli import main, recover
from pyxcsr.cli.opening import find_domain
from pyxcsr.cli.show import summary
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.report import PassReport


def test_the_summary_says_all_that_was_out_of_the_ordinary(hv: StubBackend, tmp_path: Path) -> None:
    domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M"))
    report = save_to(hv, domid, tmp_path / "s")
    plain = summary(report)
    assert "note:" not in plain and "warning:" not in plain and "p2m:" not in plain and "second time" not in plain
    assert f"live save of domain {domid}: " in plain and "ms paused" in plain
    report.verify = PassReport(9, True, 1024, pages=1000)
    report.warnings.append("something was left")
    report.p2m.follows, report.p2m.vanished, report.p2m.restless = 2, 7, True
    text = summary(report)
    for words in (
        "all pages sent a second time: 1000 in",
        "warning: something was left",
        "p2m: 2 changes followed, 0 pfns appeared, 7 vanished",
        "never held still",
    ):
        assert words in text


NAMES = {"/local/domain/3/name": b"db", "/local/domain/7/name": b"web"}
XEN: Any = SimpleNamespace(
    domains=lambda: [SimpleNamespace(domid=x) for x in (0, 3, 5, 7)],
    xenstore_read=NAMES.get,
    domain_info=lambda domid: SimpleNamespace(domid=domid),
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

    def opened(name: str, _command: str) -> Any:
        asked.append(name)
        return _Kept(hv)

    monkeypatch.setattr(recover, "opened", opened)
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
